"""`inference/realtime.py`: a recording block by block, with changes of voice at the times that were asked for; sound
devices by a stand-in."""

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
from voice_data import BASE, SOURCE

from LoraModel import RealtimeVoice
from LoraModel.inference import realtime
from LoraModel.inference.audio import read_audio, write_audio
from LoraModel.messages import UserError, cli
from LoraModel.realtime import devices
from LoraModel.realtime.plan import Switch, names_of, parse_switch, play

ANNA, BOB = Path("/voices/anna.safetensors"), Path("/voices/bob.safetensors")
NAMES = names_of([ANNA, BOB])


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return write_audio(tmp_path_factory.mktemp("in") / "in.wav", read_audio(SOURCE, 16000)[:12800], 16000)


@pytest.mark.parametrize("text, at, voice", [
    ("2.0:bob", 2.0, {BOB: 1.0}), ("0:anna=0.5,bob=0.5", 0.0, {ANNA: 0.5, BOB: 0.5}), ("1.5:1", 1.5, {ANNA: 1.0}),
    ("3:2=0.25", 3.0, {BOB: 0.25}),
    ("3:base", 3.0, {}), ("3: /voices/bob.safetensors=1", 3.0, {BOB: 1.0}), ("3:bob.safetensors", 3.0, {BOB: 1.0})])
def test_switches_are_read(text, at, voice):
    assert parse_switch(text, NAMES) == Switch(at, voice)


@pytest.mark.parametrize("text, said", [("bob", "SECONDS:VOICE"), ("x:bob", "SECONDS:VOICE"),
                                        ("-1:bob", "SECONDS:VOICE"), ("nan:bob", "SECONDS:VOICE"),
                                        ("1:eve", "anna, bob"), ("1:bob=7", "strength"), ("1:bob=x", "strength"),
                                        ("1:", "no adapter")])
def test_switches_that_say_nothing_are_refused(text, said):
    with pytest.raises(UserError, match=said):
        parse_switch(text, NAMES)


def test_two_files_of_one_name_are_told_apart_by_path_and_number():
    one, two = Path("/a/v.safetensors"), Path("/b/v.safetensors")
    names = names_of([one, two])
    assert "v" not in names and names["1"] == one and names[str(two)] == two


def test_a_recording_is_converted_with_its_changes(tmp_path, adapters, recording):
    out, figures = tmp_path / "out.wav", tmp_path / "figures.json"
    argv = ["--base_model", str(BASE), "--lora_weights", *map(str, adapters), "--input", str(recording), "--output",
            str(out), "--json", str(figures),
            "--block", "0.1", "--context", "0.2", "--switch", "0.32:two", "0.5:one=0.5,two=0.5", "--device", "cpu",
            "--noise", "0.3"]
    assert realtime.main(argv) == 0
    told = json.loads(figures.read_text())
    assert [change["heard_seconds"] for change in told["changes"]] == [0.0, 0.3, 0.5]
    assert told["changes"][2]["voice"] == {"one.safetensors": 0.5, "two.safetensors": 0.5}
    assert all(change["held_ms"] >= 0 and change["ready_ms"] > 0 for change in told["changes"])
    sound = soundfile.read(str(out), dtype="float32")[0]  # as it is: `read_audio` takes an offset out
    assert told["changes_after_the_end"] == []
    assert len(sound) == 12800 and told["blocks"] == 9 and told["seconds_a_block_most"] >= told["seconds_a_block"] > 0
    # the same as the class gives, by hand
    with RealtimeVoice(BASE, block=0.1, context=0.2) as live:
        played = play(live, read_audio(recording, 16000),
                      [Switch(0.0, {adapters[0]: 1.0}), Switch(0.32, {adapters[1]: 1.0}),
                       Switch(0.5, {adapters[0]: 0.5, adapters[1]: 0.5})], noise=0.3)
        assert live.voice.noise == 0.3
    np.testing.assert_allclose(sound, played.sound, atol=1 / 32000)


def test_a_strength_behind_a_colon_is_the_voices_own(tmp_path, adapters, recording, capsys):
    run, figures = tmp_path / "runs" / "anna", tmp_path / "figures.json"
    run.mkdir(parents=True)
    (run / "anna.safetensors").write_bytes(Path(adapters[0]).read_bytes())
    argv = ["--base_model", str(BASE), "--lora_weights", f"{run}:0.5", f"{adapters[1]}:0.25", "--input",
            str(recording), "--output", str(tmp_path / "out.wav"), "--json", str(figures), "--context", "0.2",
            "--device", "cpu"]
    assert realtime.main([*argv, "--switch", "0.3:two", "0.6:two=0.75,anna"]) == 0
    assert [change["voice"] for change in json.loads(figures.read_text())["changes"]] == [
        {"anna.safetensors": 0.5}, {"two.safetensors": 0.25}, {"two.safetensors": 0.75, "anna.safetensors": 0.5}]
    with pytest.raises(UserError, match="strength '7.0' is not between 0 and 1.5"):
        realtime.main([*argv, "--lora_weights", f"{adapters[0]}:7"])


def test_a_change_after_the_recordings_end_is_told_and_no_voice_of_the_file(tmp_path, adapters, recording, capsys):
    out, figures = tmp_path / "out.wav", tmp_path / "figures.json"
    assert realtime.main(["--base_model", str(BASE), "--lora_weights", *map(str, adapters), "--input", str(recording),
                          "--output", str(out), "--json", str(figures), "--context", "0.2", "--switch", "6.0:two",
                          "7:one=0.5,two=0.5", "8:base", "--device", "cpu"]) == 0
    said = capsys.readouterr().err
    told = json.loads(figures.read_text())
    assert told["changes_after_the_end"] == ["6.0:two", "7.0:one=0.5,two=0.5", "8.0:base"]
    assert all(f"note: {switch} lies after the recording's end (0.80 s)" in said
               for switch in told["changes_after_the_end"])
    assert len(told["changes"]) == 1 and "two" not in str(soundfile.SoundFile(str(out)).copy_metadata())


@pytest.mark.parametrize("options, said", [
    (["--input", "in.wav"], "--output"), ([], "--input"),
    (["--input", "a", "--output", "b", "--device_in", "1"], "--device_in"),
    (["--input", "no.wav", "--output", "b.wav"], "no.wav"), (["--device_in", "0", "--switch", "1:base"], "--switch")])
def test_options_that_do_not_go_together_are_refused(options, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "sounddevice", stand_in_sounddevice([]))
    with pytest.raises(UserError, match=said):
        realtime.main(["--base_model", str(BASE), *options])


def stand_in_sounddevice(heard):
    """A `sounddevice` whose stream calls its callback with each of the blocks that it is given, as soon as it
    starts."""
    module = types.ModuleType("sounddevice")

    class PortAudioError(Exception):
        pass

    class Stream:
        def __init__(self, samplerate, blocksize, channels, dtype, device, callback):
            if device[0] == "broken":
                raise PortAudioError("no such device")
            self.callback, self.blocksize = callback, blocksize
            module.opened = self
            self.out = []

        def __enter__(self):
            for block in heard:
                out = np.zeros((self.blocksize, 1), dtype=np.float32)
                self.callback(block[:, None], out, self.blocksize, None, 0)
                self.out.append(out[:, 0])
            return self

        def __exit__(self, *_):
            pass

    module.Stream, module.PortAudioError = Stream, PortAudioError
    return module


def test_devices_hear_and_speak_in_the_voice_that_is_typed(monkeypatch, adapters, capsys):
    with RealtimeVoice(BASE, block=0.1, context=0.2) as live, RealtimeVoice(BASE, block=0.1, context=0.2) as other:
        blocks = list(np.random.default_rng(0).normal(0, 0.1, (2, live.block_samples)).astype(np.float32))
        monkeypatch.setitem(sys.modules, "sounddevice", stand_in_sounddevice(blocks))
        devices.talk(live, "3", "loudspeaker", names_of(adapters),
                     lines=["two=0.5\n", "\n", "nobody\n", "q\n", "one\n"])
        assert all(np.array_equal(one, other.process(block)) for one,
                   block in zip(sys.modules["sounddevice"].opened.out, blocks))
        live.process(blocks[0])
        assert [(a.adapter.name, a.strength) for a in live.applied] == [("two", 0.5)]
    assert "nobody" in capsys.readouterr().err


def test_devices_that_are_not_there_are_told(monkeypatch):
    with RealtimeVoice(BASE, block=0.1, context=0.2) as live:
        monkeypatch.setitem(sys.modules, "sounddevice", stand_in_sounddevice([]))
        with pytest.raises(UserError, match="python -m sounddevice"):
            devices.DeviceStream(live, "broken", None, print)
        monkeypatch.setitem(sys.modules, "sounddevice", None)
        with pytest.raises(UserError, match="pip install sounddevice"):
            devices.sound_devices()


@pytest.mark.parametrize("text", ["1:bob=１", "1:bob=1_0", "1:bob=inf", "1:bob=nan", "１:bob", "1_0:bob", "1e7:bob"])
def test_numbers_are_of_ordinary_digits(text):
    with pytest.raises(UserError, match="strength|SECONDS:VOICE"):
        parse_switch(text, NAMES)


def test_devices_are_numbers_or_names():
    assert devices.device_of("3") == 3
    for name in ("²", "１", "9" * 5000, "USB"):
        assert devices.device_of(name) == name


def test_nothing_that_is_read_is_written_over(adapters, recording, tmp_path, capsys):
    mine, voice = tmp_path / "in.wav", tmp_path / "a.safetensors"
    mine.write_bytes(recording.read_bytes())
    voice.write_bytes(adapters[0].read_bytes())
    kept = mine.read_bytes(), voice.read_bytes()
    common = ["--base_model", str(BASE), "--lora_weights", str(voice), "--input", str(mine)]
    for more, said in ((["--output", str(mine)], "is an input"), (["--output", "o.wav", "--json", str(voice)], "is an"),
                       (["--output", str(tmp_path / "o.wav"), "--json", str(tmp_path / "o.wav")], "one file"),
                       (["--output", str(tmp_path / "o.xyz")], "cannot write")):
        assert cli(realtime.main, [*common, *more]) == 2
        assert said in capsys.readouterr().err
    assert (mine.read_bytes(), voice.read_bytes()) == kept and not (tmp_path / "o.wav").exists()


def test_a_voice_that_cannot_be_had_ends_no_stream(adapters, monkeypatch, capsys):
    """A file that is damaged or gone while the stream runs is said; infinite samples are silence."""
    answers = iter([UserError("it is damaged"), OSError(5, "broken", "a.safetensors"), MemoryError()])

    class Live:
        rate, block_samples = 16000, 1600

        def use(self, voice, *_):
            raise next(answers)

        def process(self, block):
            return block

    class Stream:
        def __init__(self, callback, **_):
            self.callback = callback

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    monkeypatch.setitem(sys.modules, "sounddevice", types.SimpleNamespace(Stream=Stream, PortAudioError=OSError))
    opened = devices.talk(Live(), None, None, {"anna": ANNA}, lines=["anna\n", "anna\n", "anna\n", "\udcff\n", "q\n"])
    said = capsys.readouterr().err.splitlines()
    words = ("damaged", "a.safetensors", "memory", "no adapter")
    assert len(said) == 4 and all(word in line for word, line in zip(words, said))
    heard, out = np.full((1600, 1), np.inf, np.float32), np.ones((1600, 1), np.float32)
    opened.callback(heard, out, 1600, None, None)
    assert not out.any()
