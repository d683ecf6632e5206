"""What a program gives by mistake is named with its type, and ends in no TypeError."""

import numpy as np
import pytest
from voice_data import BASE

from LoraModel import RealtimeVoice, Voice
from LoraModel.inference import ConvertOptions
from LoraModel.inference.strength import check_strength
from LoraModel.lora.voice_pitch import VoicePitch
from LoraModel.messages import UserError
from LoraModel.models.prior_noise import check_share


@pytest.mark.parametrize("options, said", [
    ({"rate": "48k"}, "rate='48k' is a text, give a number"), ({"rate": [1]}, "rate=.* is no number .list."),
    ({"block": "0.25"}, "block='0.25' is a text"), ({"context": None}, "context=None is no number"),
    ({"transpose": None}, "transpose=None"), ({"index_rate": "1"}, "index_rate='1' is a text"),
    ({"seed": 1.5}, "seed=1.5 is no whole number")])
def test_a_stream_names_what_is_no_number(voice, options, said):
    with pytest.raises(UserError, match=said):
        RealtimeVoice(voice, **options)


@pytest.mark.parametrize("options, said", [
    ({"transpose": None}, r"transpose=None is no number \(NoneType\)"), ({"protect": "0.3"}, "'0.3' is a text"),
    ({"seed": None}, "seed=None is no number"), ({"index_rate": True}, "index_rate=True is no number")])
def test_options_name_what_is_no_number(options, said):
    with pytest.raises(UserError, match=said):
        ConvertOptions(**options)


def test_a_number_in_quotes_is_said_to_be_a_text():
    """"must be between 0.05 and 4.0" was said of 0.3, which is."""
    with pytest.raises(UserError, match="noise='0.3' is a text, give a number"):
        check_share("0.3")
    with pytest.raises(UserError, match="strength='0.5' is a text, give a number"):
        check_strength("0.5")


def test_a_recording_of_nothing_is_shorter_than_a_voice_that_tells_its_pitch_can_use(monkeypatch):
    program = Voice(BASE, device="cpu")
    monkeypatch.setattr(type(program.loader), "pitch", VoicePitch(200.0, 150.0, 250.0))
    with pytest.raises(UserError, match="shorter than 0.1 s"):
        program.convert(np.zeros(0, np.float32))
