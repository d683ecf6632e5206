"""Adapters in every form that a program may give them, at every door that takes them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from voice_data import BASE

from LoraModel import RealtimeVoice, Voice, VoiceBatch
from LoraModel.inference.adapter_choice import pairs_of
from LoraModel.lora import load_adapter
from LoraModel.messages import UserError

FORMS = {"file": lambda a, b: str(a), "adapter": lambda a, b: load_adapter(a),
         "run": lambda a, b: a.parent / "run",
         "list": lambda a, b: [a, b],
         "pairs": lambda a, b: [(a, 0.5), (b, 0.25)], "generator": lambda a, b: ((one, 0.5) for one in (a, b)),
         "dict": lambda a, b: {a: 0.5, b: 0.25}, "nothing": lambda a, b: []}
STRENGTHS = {"file": [1], "adapter": [1], "run": [1], "list": [1, 1], "pairs": [0.5, 0.25], "generator": [0.5, 0.5],
             "dict": [0.5, 0.25], "nothing": []}


@pytest.mark.parametrize("form", FORMS)
def test_every_door_takes_adapters_in_every_form(voice, adapters, form, tmp_path):
    first, second = (Path(shutil.copy(file, tmp_path)) for file in adapters)
    (tmp_path / "run").mkdir()
    shutil.copy(first, tmp_path / "run")
    wanted = STRENGTHS[form]

    def given():
        return FORMS[form](first, second)

    with RealtimeVoice(voice, block=0.06, context=0.2) as live:
        live.use(given()).result()
        live.process(np.zeros(live.block_samples, np.float32))
        assert [strength for _, strength in live.applied] == wanted
    voice.unload()
    assert bool(VoiceBatch(voice).products(given())) == bool(wanted)
    voice.set_adapters(given())
    assert [strength for _, strength in voice.applied] == wanted
    voice.morph(given(), [], 0.5)
    assert [strength for _, strength in voice.applied] == [strength / 2 for strength in wanted]
    voice.unload()
    program = Voice(BASE)
    program.set_adapters(given())
    assert [strength for _, strength in program.adapters] == wanted


@pytest.mark.parametrize("wrong, said", [(None, "None"), (0.8, "0.8"), ([("a", 0.8, 1)], "tuple"), (b"a", "bytes"),
                                         ({3: 1.0}, "3 "), (("a", 0.8), "0.8"), ([["a"], "b"], "list")])
def test_what_is_no_adapter_is_named(voice, wrong, said):
    with RealtimeVoice(voice, block=0.06, context=0.2) as live:
        for door in (voice.set_adapters, VoiceBatch(voice).products, live.use, pairs_of):
            with pytest.raises(UserError, match=f"{said}.* is no adapter: give a file"):
                door(wrong)


def test_one_voice_is_no_list_of_voices(voice, adapters, speech):
    for wrong in (str(adapters[0]), {adapters[0]: 1.0}):
        with pytest.raises(UserError, match="give a list with a voice for each recording"):
            VoiceBatch(voice).convert([speech[:8000]], wrong)


def test_a_folder_is_no_adapters_file(tmp_path):
    with pytest.raises(UserError, match=r"there is no adapter file .*x \(it is a folder\): check"):
        (tmp_path / "x").mkdir()
        load_adapter(tmp_path / "x")
