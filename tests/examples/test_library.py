"""The library as docs/library.md shows it: each public name, and what `train` and `Voice` promise."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_base
import training_data
from voice_data import BASE

import LoraModel
from LoraModel import TrainConfig, UserError, Voice, train
from LoraModel.preparation.recordings import find_recordings

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = pytest.fixture(autouse=True, scope="module")(training_data.one_thread)


def blocks(page):
    return re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with recordings in anna/, in.wav and a tiny base.pth."""
    (tmp_path / "anna").mkdir()
    for number in (1, 2, 3):
        soundfile.write(
            str(tmp_path / "anna" / f"{number}.wav"), training_data.clip(number, 0.4, 1.0)[0], training_data.RATE
        )
    shutil.copyfile(str(tmp_path / "anna" / "1.wav"), str(tmp_path / "in.wav"))
    tiny_base.make(tmp_path / "base.pth", noise=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", ["library.md", "library.zh-CN.md"])
def test_the_pages_code_runs_as_it_stands(page, place, capsys):
    code = blocks(page)
    if page != "library.md":  # the same but for its comments: it need not run twice
        plain = [[re.sub(r' *(#.*|""".*""")', "", block) for block in blocks(one)] for one in ("library.md", page)]
        assert plain[0] == plain[1]
        return
    exec(compile("\n".join(code), page, "exec"), {"__name__": "page"})
    said = capsys.readouterr()
    assert "of 2:" in said.out and "nobody.safetensors" in said.out and "transpose " in said.out
    assert {path.name for path in place.iterdir()} >= {"out.wav", "plain.wav", "anna.pth", "small.safetensors", "runs"}


def test_every_public_name_is_on_the_page_and_documented():
    text = "\n".join(blocks("library.md"))
    for name in LoraModel.__all__:
        assert re.search(rf"\b{name}\b", text), f"docs/library.md shows no {name}"
        assert len(getattr(LoraModel, name).__doc__.strip()) > 30


def test_train_from_recordings_is_train_from_their_experiment_folder(place):
    settings = {"base_model": "base.pth", "epochs": 2, "name": "anna", "device": "cpu"}
    steps = []
    first = train(TrainConfig(data_dir="anna", output_dir="one", **settings), callback=steps.append)
    second = train(TrainConfig(data_dir="one/data", output_dir="two", **settings))
    assert first.adapter == place / "one" / "anna.safetensors" and second.heldout == first.heldout and first.finished
    assert [step.step for step in steps] == [1, 2] and steps[-1].total_steps == 2
    assert first.heldout in [step.heldout for step in steps]
    assert (
        steps[0].losses["kl"] > 0
        and steps[0].seconds > 0
        and first.better_than_base == (first.heldout <= first.base_heldout)
    )


def test_a_callback_stops_the_run_and_resume_goes_on(place):
    config = TrainConfig(base_model="base.pth", data_dir="anna", output_dir="run", epochs=4, save_every=4, device="cpu")
    stopped = train(config, callback=lambda step: step.step < 2)
    assert not stopped.finished and stopped.steps == 2
    with pytest.raises(UserError, match="resume"):
        train(config)
    assert train(config, resume=True).steps == 4


def test_a_run_below_the_recordings_is_none_of_them(place):
    config = TrainConfig(base_model="base.pth", data_dir="anna", output_dir="anna/lora", epochs=1, device="cpu")
    train(config)
    assert list((place / "anna/lora/samples").glob("*.flac"))
    (place / "anna/lora/data").rename(place / "kept")  # what is in it is passed over as it is
    assert {file.parent for file in find_recordings(place / "anna").files} == {place / "anna"}
    (place / "kept").rename(place / "anna/lora/data")
    assert train(config, resume=True).finished and not (place / "anna/lora/data/set_aside").exists()


def test_what_train_refuses(place):
    with pytest.raises(UserError, match="data_dir is missing"):
        train(TrainConfig(base_model="base.pth", output_dir="x"))
    (place / "empty").mkdir()
    with pytest.raises(UserError, match="holds no audio files"):
        train(TrainConfig(base_model="base.pth", data_dir="empty", output_dir="x"))
    with pytest.raises(UserError, match="no experiment folder .*the nearest: .*anna"):
        train(TrainConfig(base_model="base.pth", data_dir="ana", output_dir="x"))


def test_voice_takes_files_adapters_and_strengths(place, adapters):
    voice = Voice(BASE)
    plain = voice.convert("in.wav", transpose=0).audio
    voice.set_adapters({adapters[0]: 0.5, adapters[1]: 0.25})
    assert voice.adapters == [("one", 0.5), ("two", 0.25)] and voice.sample_rate == 16000
    blend = voice.convert("in.wav", "out.flac", transpose=0)
    assert np.array_equal(
        voice.convert(np.asarray(soundfile.read("in.wav", dtype="float32")[0]), transpose=0).audio, blend.audio
    )
    assert soundfile.info("out.flac").frames == len(blend.audio) and not np.array_equal(blend.audio, plain)
    merged = Voice(voice.merge("merged.pth"))
    assert np.abs(merged.convert("in.wav", transpose=0).audio - blend.audio).max() < 2e-2
    voice.set_adapters(adapters[0])
    assert voice.adapters == [("one", 1.0)]
    voice.set_adapters()
    assert voice.adapters == [] and np.array_equal(voice.convert("in.wav", transpose=0).audio, plain)
    for wrong, said in (
        ({"source": np.zeros((2, 8000), np.float32)}, "shape"),
        ({"source": "no.wav"}, "no audio file"),
        ({"source": "in.wav", "output": "a.xyz"}, "cannot write"),
        ({"source": "in.wav", "protect": 2}, "protect"),
    ):
        with pytest.raises(UserError, match=said):
            voice.convert(**wrong)
    with pytest.raises(UserError, match="exists"):
        voice.merge("merged.pth")


def test_a_programs_mistakes_are_named_and_overwrite_nothing(place):
    voice = Voice("base.pth")
    sound, before = np.zeros(16000, np.float32), (place / "in.wav").read_bytes()
    for source, more, said in (
        ("in.wav", {"output": "in.wav"}, "is an input"), ("in.wav", {"output": "in.wav/x.wav"}, "file"),
        (sound * np.nan, {}, "no numbers"), (np.zeros((2, 16000)), {}, "shape"), (sound[:0], {}, "shorter"),
        (sound, {"seed": 2**80}, "seed"), (sound, {"seed": -1}, "seed"), (sound, {"speaker": "²"}, "speaker"),
        (sound, {"transpose": "high"}, "transpose"), (sound, {"index_rate": float("nan")}, "index_rate"),
        ("~nosuchuser/x.wav", {}, "no user"), ("a\0b", {}, "NUL"), ("x" * 5000, {}, "too long"),
    ):
        with pytest.raises(UserError, match=said):
            voice.convert(source, **more)
    rate = f"{voice.sample_rate / 1000:g}k"  # as the commands take it
    assert Voice("base.pth", sample_rate=rate).sample_rate == voice.sample_rate
    with pytest.raises(UserError, match="sample rate 'high' is no number: give Hz, such as 40000, or 40k"):
        Voice("base.pth", sample_rate="high")
    for path in ("~nosuchuser/x", "a\0b", "\ud800"):
        for call in (Voice, voice.set_adapters, voice.merge):
            with pytest.raises(UserError):
                call(path)
    assert (place / "in.wav").read_bytes() == before


def test_samples_of_16_bits_are_brought_to_full_scale(place):
    voice, sound = Voice("base.pth"), soundfile.read("in.wav", dtype="float32")[0]
    voice._converter = lambda audio, options: audio  # what the conversion gets
    heard = voice.convert((sound * 32768).astype(np.int16), transpose=0).audio
    np.testing.assert_allclose(heard, voice.convert(sound, transpose=0).audio, atol=1e-3)
