"""Voices on one base, and the small conversion: in the library layout, on the demo's base, with adapters of random tensors."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from LoraModel.demo import features
from LoraModel.inference import ConvertOptions, Retrieval, VoiceLoader, convert
from LoraModel.inference import audio as audio_io
from LoraModel.lora import LoRAConfig, extract, inject, save_adapter, weight_norm
from LoraModel.messages import UserError
from LoraModel.models import load_base

convert_module = sys.modules["LoraModel.inference.convert"]  # the package gives this name to the function
ROOT = Path(__file__).resolve().parents[1]
BASE = ROOT / "LoraModel" / "demo" / "base" / "f0G16k.pth"
SOURCE = ROOT / "LoraModel" / "demo" / "recordings" / "source" / "01.flac"


def make_adapter(path, host, seed, base=BASE, **fields):
    """An adapter file of random tensors for the demo's base."""
    loaded = load_base(base, host, config_json=BASE.parent / "config.json")
    injection = inject(loaded.network, LoRAConfig.from_preset())
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: 0.05 * torch.randn(tensor.shape, generator=generator) for name, tensor in injection.tensors().items()}
    extract(loaded.network)
    info = loaded.info
    metadata = dict(name=Path(path).stem, base_hash=info.base_hash, base_name=info.name, rvc_version=info.version,
                    sample_rate=info.sample_rate, f0=int(info.f0), speaker=0)
    return save_adapter(path, tensors, injection.config, {**metadata, **fields})


@pytest.fixture(scope="module")
def adapters(tmp_path_factory, library):
    folder = tmp_path_factory.mktemp("adapters")
    return [make_adapter(folder / "one.safetensors", library, 1), make_adapter(folder / "two.safetensors", library, 2)]


@pytest.fixture
def voice(library):
    return VoiceLoader(BASE, library)


@pytest.fixture(scope="module")
def speech():
    return audio_io.read_audio(SOURCE, 16000)[:32000]


def go(voice, speech, options=ConvertOptions(), **more):
    return convert(voice, speech, options, features.content_features, features.pitch, features.coarse_pitch, **more)


def state(voice):
    return {name: tensor.clone() for name, tensor in voice.network.state_dict().items()}


def weights(voice, adapter):
    """Effective weights of the layers that the adapter changes."""
    return {path: weight_norm.compose(weight_norm.stored_tensors(voice.network.get_submodule(path))).clone() for path in adapter.layers()}


# ---------------------------------------------------------------- switching

@pytest.mark.parametrize("how", ["unload", "empty", "strength 0"])
def test_taking_a_voice_off_gives_back_the_base_bit_for_bit(voice, adapters, speech, how):
    before, sound = state(voice), go(voice, speech)
    voice.set_adapters([(adapters[0], 1.0), (adapters[1], 0.3)])
    assert not np.array_equal(go(voice, speech), sound)
    if how == "unload":
        voice.unload()
    elif how == "empty":
        voice.set_adapters([])
    else:
        voice.set_adapters([(adapters[0], 0.0)])
    after = state(voice)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert np.array_equal(go(voice, speech), sound)
    assert voice.applied == []


def test_switching_replaces_no_tensor_and_no_module(voice, adapters):
    pointers = {name: tensor.data_ptr() for name, tensor in voice.network.named_parameters()}
    modules = [id(module) for module in voice.network.modules()]
    voice.set_adapters([(adapters[0], 1.0)])
    voice.set_adapters([(adapters[1], 0.5)])
    assert pointers == {name: tensor.data_ptr() for name, tensor in voice.network.named_parameters()}
    assert modules == [id(module) for module in voice.network.modules()]


def test_strength_is_linear_and_voices_blend(voice, adapters):
    one, two = voice.load(adapters[0]), voice.load(adapters[1])
    base = weights(voice, one)
    deltas = [one.deltas(voice.network), two.deltas(voice.network)]
    for strengths in [(1.0, 0.0), (0.35, 0.0), (-0.5, 0.0), (2.0, 0.0), (0.6, 0.7)]:
        voice.set_adapters([(one, strengths[0]), (two, strengths[1])])
        for path, found in weights(voice, one).items():
            wanted = base[path] + strengths[0] * deltas[0][path] + strengths[1] * deltas[1][path]
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_voice_is_the_same_whatever_was_applied_before(voice, adapters):
    voice.set_adapters([(adapters[0], 1.0)])
    first = state(voice)
    for _ in range(3):
        voice.set_adapters([(adapters[1], 1.7)])
        voice.set_adapters([(adapters[0], 0.1), (adapters[1], 0.2)])
    voice.set_adapters([(adapters[0], 1.0)])
    assert all(torch.equal(first[name], tensor) for name, tensor in state(voice).items())


def bad_file(tmp_path, library, kind):
    path = tmp_path / "bad.safetensors"
    if kind == "other base":
        make_adapter(path, library, 3, base_hash="0" * 64, base_name="f0G48k")
    elif kind == "other rate":
        make_adapter(path, library, 3, sample_rate=48000)
    elif kind == "damaged":
        path.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{broken json")
    return path


@pytest.mark.parametrize("kind, said", [("other base", "f0G48k.*f0G16k"), ("other rate", "48000.*16000"), ("damaged", "not a usable"),
                                        ("missing", "no adapter file")])
def test_a_switch_that_fails_leaves_the_voice_applied(voice, adapters, tmp_path, library, kind, said):
    voice.set_adapters([(adapters[0], 1.0)])
    before, applied = state(voice), voice.applied
    with pytest.raises(UserError, match=said):
        voice.set_adapters([(adapters[1], 1.0), (bad_file(tmp_path, library, kind), 1.0)])
    assert all(torch.equal(before[name], tensor) for name, tensor in state(voice).items())
    assert voice.applied == applied


def test_force_takes_an_adapter_of_another_base_but_not_of_another_rate(voice, tmp_path, library):
    voice.set_adapters([(bad_file(tmp_path, library, "other base"), 1.0)], force=True)
    assert len(voice.applied) == 1
    with pytest.raises(UserError, match="48000"):
        voice.set_adapters([(bad_file(tmp_path, library, "other rate"), 1.0)], force=True)


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), "much"])
def test_a_strength_that_is_no_number_is_refused(voice, adapters, strength):
    with pytest.raises(UserError, match="strength"):
        voice.set_adapters([(adapters[0], strength)])


def test_a_changed_file_is_read_again(voice, tmp_path, library, adapters):
    path = tmp_path / "voice.safetensors"
    shutil.copy(adapters[0], path)
    first = voice.load(path)
    assert voice.load(path) is first
    make_adapter(path, library, 9)
    os.utime(path, ns=(1, 1))
    assert voice.load(path) is not first


def test_a_switch_waits_for_the_conversion_under_way(voice, adapters):
    order = []
    with voice.lock:
        thread = threading.Thread(target=lambda: (voice.set_adapters([(adapters[0], 1.0)]), order.append("switched")))
        thread.start()
        thread.join(0.5)
        order.append("converted")
    thread.join()
    assert order == ["converted", "switched"]


def test_a_network_in_fp16_gets_its_base_back_too(voice, adapters):
    voice.move("cpu", half=True)
    before = state(voice)
    voice.set_adapters([(adapters[0], 1.0)])
    assert any(not torch.equal(before[name], tensor) for name, tensor in state(voice).items())
    assert all(tensor.dtype == torch.float16 for tensor in voice.network.parameters())
    with pytest.raises(ValueError, match="before"):
        voice.move("cpu")
    voice.unload()
    assert all(torch.equal(before[name], tensor) for name, tensor in state(voice).items())


def test_the_pristine_copy_outlives_an_unload_and_gives_the_same_voice_again(voice, adapters):
    before = state(voice)
    voice.set_adapters([(adapters[0], 1.0)])
    first = state(voice)
    for _ in range(2):
        voice.unload()
        assert all(torch.equal(before[name], tensor) for name, tensor in state(voice).items())
        voice.set_adapters([(adapters[0], 1.0)])
        assert all(torch.equal(first[name], tensor) for name, tensor in state(voice).items())


# ---------------------------------------------------------------- conversion

def test_a_short_conversion_is_the_networks_own_infer(voice, speech):
    padded = np.pad(speech, (0, -len(speech) % 320))
    frames = len(padded) // 160
    phone = np.repeat(features.content_features(padded), 2, axis=0)[:frames]
    f0 = features.pitch(padded, frames)
    torch.manual_seed(5)
    with torch.no_grad():
        own = voice.network.infer(torch.from_numpy(phone)[None], torch.tensor([frames]), torch.from_numpy(features.coarse_pitch(f0))[None],
                                  torch.from_numpy(f0.astype(np.float32))[None], torch.tensor([0]))[0][0, 0].numpy()
    found = go(voice, speech, ConvertOptions(seed=5), chunk=10**6)
    assert len(found) == len(speech)
    np.testing.assert_allclose(found, own[: len(found)], atol=2e-5)


@pytest.mark.parametrize("chunk", [37, 50, 120])
def test_chunks_are_what_the_whole_is(voice, speech, chunk):
    whole = go(voice, speech, chunk=10**6)
    np.testing.assert_allclose(go(voice, speech, chunk=chunk), whole, atol=2e-5)


def test_sections_differ_from_the_whole_by_little(voice, speech):
    long = np.concatenate([speech] * 3)  # 6 s
    whole = go(voice, long, section=10**6)
    cut = go(voice, long, section=300)
    assert np.sqrt(np.mean((whole - cut) ** 2) / np.mean(whole**2)) < 0.05
    assert not np.array_equal(whole, cut)


def test_a_block_of_excitation_ends_where_there_is_no_voice(voice):
    f0 = np.concatenate([np.full(70, 200.0), np.zeros(10), np.full(60, 150.0)])
    synthesis = convert_module._Synthesis(voice.network, voice.device, 0, f0, features.coarse_pitch(f0))
    starts = []
    real = voice.network.dec.m_source.forward
    voice.network.dec.m_source.forward = lambda f0, upp: (starts.append(f0.shape[1]), real(f0, upp))[1]
    try:
        source = synthesis._excitation(voice.info.hop_length, longest=100)
    finally:
        del voice.network.dec.m_source.forward
    assert starts == [80, 60] and source.shape == (1, 140 * voice.info.hop_length, 1)


def test_equal_seeds_give_equal_audio_and_leave_torchs_own_alone(voice, speech):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = go(voice, speech, ConvertOptions(seed=1))
    assert torch.equal(torch.rand(2), expected)
    assert np.array_equal(first, go(voice, speech, ConvertOptions(seed=1)))
    assert not np.array_equal(first, go(voice, speech, ConvertOptions(seed=2)))


def test_transposition_moves_the_pitch(voice, speech):
    def median(sound):
        f0 = features.pitch(sound, len(sound) // 160)
        return np.median(f0[f0 > 0])

    plain = median(go(voice, speech))
    assert median(go(voice, speech, ConvertOptions(transpose=12))) / plain == pytest.approx(2, rel=0.05)
    assert median(go(voice, speech, ConvertOptions(transpose=-5))) / plain == pytest.approx(2 ** (-5 / 12), rel=0.05)


def flat_index(path, vectors):
    import faiss

    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(path))
    return path


def test_retrieval_is_the_brute_force_mean(tmp_path):
    rng = np.random.default_rng(0)
    vectors, queries = rng.normal(size=(60, 12)).astype(np.float32), rng.normal(size=(7, 12)).astype(np.float32)
    retrieval = Retrieval(flat_index(tmp_path / "a.index", vectors), 12)
    for rate in (0.3, 1.0):
        wanted = []
        for query in queries:
            score = ((vectors - query) ** 2).sum(1)
            nearest = np.argsort(score)[:8]
            weight = (1 / score[nearest]) ** 2
            wanted.append(rate * (weight / weight.sum()) @ vectors[nearest] + (1 - rate) * query)
        np.testing.assert_allclose(retrieval.mix(queries, rate), wanted, rtol=1e-4, atol=1e-5)


def test_retrieval_finds_a_frame_that_is_in_the_index_and_survives_small_ones(tmp_path):
    vectors = np.eye(5, dtype=np.float32)
    retrieval = Retrieval(flat_index(tmp_path / "a.index", vectors), 5)
    np.testing.assert_allclose(retrieval.mix(vectors[:2], 1.0), vectors[:2], atol=1e-6)  # RVC divides by zero here
    assert np.isfinite(retrieval.mix(np.zeros((3, 5), np.float32), 1.0)).all()


def test_retrieval_pulls_the_conversion_to_the_index(voice, speech, tmp_path):
    vectors = features.content_features(audio_io.read_audio(SOURCE.parent / "02.flac", 16000))
    index = flat_index(tmp_path / "a.index", vectors)
    plain = go(voice, speech)
    assert np.array_equal(plain, go(voice, speech, ConvertOptions(index=index, index_rate=0.0)))
    assert not np.array_equal(plain, go(voice, speech, ConvertOptions(index=index, index_rate=0.5)))


def test_protect_keeps_unvoiced_frames_of_the_source():
    retrieved, source = np.full((4, 2), 10.0, np.float32), np.zeros((4, 2), np.float32)
    f0 = np.array([0.0, 200.0, 0.0, 90.0])
    np.testing.assert_allclose(convert_module.protected(retrieved, source, f0, 0.2)[:, 0], [2, 10, 2, 10])
    assert convert_module.protected(retrieved, source, f0, 0.5) is retrieved


@pytest.mark.parametrize("text, said", [("not an index", "no faiss index"), (None, "there is no index")])
def test_a_bad_index_is_refused(voice, speech, tmp_path, text, said):
    path = tmp_path / "bad.index"
    if text:
        path.write_text(text)
    with pytest.raises(UserError, match=said):
        go(voice, speech, ConvertOptions(index=path))


def test_an_index_of_another_size_and_a_missing_speaker_are_refused(voice, speech, tmp_path):
    index = flat_index(tmp_path / "a.index", np.zeros((9, 256), np.float32))
    with pytest.raises(UserError, match="256 values, the base needs 768"):
        go(voice, speech, ConvertOptions(index=index))
    with pytest.raises(UserError, match="speaker 99"):
        go(voice, speech, ConvertOptions(speaker=99))


@pytest.mark.parametrize("values", [{"protect": 0.7}, {"index_rate": -0.1}, {"transpose": 100}, {"protect": float("nan")}])
def test_options_out_of_range_are_refused(values):
    with pytest.raises(UserError, match=next(iter(values))):
        ConvertOptions(**values)


def test_a_base_without_pitch_converts(library, full_network, speech):
    from LoraModel.models.model_utils import Base, BaseInfo
    from LoraModel.models.model_utils import config_list

    config = config_list(library.config_for("v2", 40000))
    info = BaseInfo("nono", Path("nono.pth"), config, "v2", False, 40000, True, "0" * 64)
    voice = VoiceLoader(Base(full_network("v2", False), info), library)
    found = go(voice, speech[:8000])
    assert len(found) == 20000 and np.isfinite(found).all() and np.abs(found).max() > 0


def test_windows_cover_everything_once_but_for_the_overlap():
    for total, size, overlap in [(10, 20, 4), (100, 30, 5), (101, 30, 5), (55, 30, 5), (31, 30, 5), (30, 30, 5)]:
        cut = convert_module.windows(total, size, overlap)
        assert cut[0][0] == 0 and cut[-1][1] == total
        assert all(start == stop - overlap for (_, stop), (start, _) in zip(cut, cut[1:]))
        assert all(0 < stop - start <= size for start, stop in cut)


def test_cross_fading_equal_pieces_changes_nothing():
    whole = torch.arange(40.0)
    out = torch.zeros(40)
    for start, stop in convert_module.windows(40, 15, 4):
        convert_module.fade_in(out, whole[start:stop], start, 4)
    torch.testing.assert_close(out, whole)


# ---------------------------------------------------------------- audio files

@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg", ".mp3"])
def test_what_is_written_can_be_read(tmp_path, ending):
    sound = 0.3 * np.sin(2 * np.pi * 220 * np.arange(40000) / 40000).astype(np.float32)
    if audio_io.FORMATS[ending][0] not in soundfile.available_formats():
        with pytest.raises(UserError, match="cannot write"):
            audio_io.write_audio(tmp_path / f"a{ending}", sound, 40000)
        return
    path = audio_io.write_audio(tmp_path / f"a{ending}", sound, 40000)
    back = audio_io.read_audio(path, 40000)
    assert abs(len(back) - len(sound)) < 4000
    spectrum = np.abs(np.fft.rfft(back[:32000]))
    assert np.argmax(spectrum) * 40000 / 32000 == pytest.approx(220, abs=2)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_stereo_becomes_mono_and_rates_change(tmp_path):
    left = np.ones(4410, np.float32) * 0.5
    soundfile.write(str(tmp_path / "a.wav"), np.stack([left, -left], 1), 44100)
    found = audio_io.read_audio(tmp_path / "a.wav", 16000)
    assert found.shape == (1600,) and np.abs(found).max() < 1e-6


@pytest.mark.parametrize("content, said", [(b"hello", "no audio|cannot be read"), (b"", "no audio|cannot be read|no sound"), (None, "no audio file")])
def test_what_is_no_audio_is_refused(tmp_path, content, said):
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        audio_io.read_audio(path, 16000)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_ffmpeg_reads_what_libsndfile_does_not(tmp_path):
    sound = (0.3 * np.sin(2 * np.pi * 220 * np.arange(16000) / 16000)).astype("<f4")
    command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "f32le", "-ar", "16000", "-ac", "1", "-i", "-", "-c:a", "aac", str(tmp_path / "-a:b.m4a")]
    subprocess.run(command, input=sound.tobytes(), check=True)
    found = audio_io.read_audio(tmp_path / "-a:b.m4a", 16000)
    assert np.argmax(np.abs(np.fft.rfft(found[:16000]))) == pytest.approx(220, abs=2)


def test_without_ffmpeg_the_error_says_so(tmp_path, monkeypatch):
    (tmp_path / "a.m4a").write_bytes(b"nothing")
    monkeypatch.setattr(audio_io.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="install ffmpeg"):
        audio_io.read_audio(tmp_path / "a.m4a", 16000)


# ---------------------------------------------------------------- the command

def run(*arguments, script="inference/infer_lora.py"):
    """As a user types it, from inside LoraModel/."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "RVC_ROOT")}
    return subprocess.run([sys.executable, script, *map(str, arguments)], cwd=ROOT / "LoraModel", env={**environment, "RVC_LORA_LANG": "en"},
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", check=False)


@pytest.fixture(scope="module")
def short(tmp_path_factory, speech):
    return audio_io.write_audio(tmp_path_factory.mktemp("in") / "in.wav", speech[:16000], 16000)


def test_command_converts_a_folder_and_reports_what_it_could_not_read(tmp_path, short, adapters):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.wav", "b.wav"):
        shutil.copy(short, folder / name)
    (folder / "c.wav").write_bytes(b"no audio")
    done = run("--base_model", "demo/base/f0G16k.pth", "--lora_weights", adapters[0], "--lora_weights", adapters[1], "--strength", "0.5",
               "--strength", "0.5", "--input", folder, "--output", tmp_path / "out", "--format", "flac")
    assert done.returncode == 2 and "1 of 3 recordings" in done.stderr and "c.wav" in done.stderr
    assert "wrote" not in done.stdout and done.stderr.count("stand-in") == 1
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.flac", "b.flac"]
    assert "Traceback" not in done.stderr


def test_command_never_overwrites_its_input(short):
    before = short.read_bytes()
    done = run("--model", "demo/base/f0G16k.pth", "--input", short, "--output", short)
    assert done.returncode == 2 and "never overwritten" in done.stderr and done.stdout == ""
    assert short.read_bytes() == before


def test_in_process_command_is_the_conversion(tmp_path, short, adapters, voice, monkeypatch, capsys):
    from LoraModel.inference import infer_lora
    from LoraModel.messages import cli

    arguments = ["--base_model", str(BASE), "--lora_weights", str(adapters[0]), "--strength", "0.8", "--input", str(short),
                 "--output", str(tmp_path / "o.wav"), "--transpose", "3", "--seed", "4"]
    assert cli(infer_lora.main, arguments) == 0 and "wrote" in capsys.readouterr().out
    voice.set_adapters([(adapters[0], 0.8)])
    wanted = go(voice, audio_io.read_audio(short, 16000), ConvertOptions(transpose=3, seed=4))
    found = soundfile.read(str(tmp_path / "o.wav"))[0]
    np.testing.assert_allclose(found, wanted, atol=1 / 32000)


def bad_command(kind, short, adapters, tmp_path):
    good = {"--base_model": [BASE], "--lora_weights": [adapters[0]], "--input": [short], "--output": [tmp_path / "o.wav"]}
    changed = {
        "no base": {"--base_model": []}, "missing base": {"--base_model": ["nowhere.pth"]}, "missing input": {"--input": ["nowhere.wav"]},
        "ending": {"--output": [tmp_path / "o.xyz"]}, "strengths": {"--strength": [1, 2]}, "method": {"--f0_method": ["crepe"]},
        "rate": {"--sample_rate": ["fast"]}, "device": {"--device": ["nonsense"]}, "both": {"--model": [BASE]}, "root": {"--rvc_root": [tmp_path]},
        "index": {"--index": [short]}, "rms": {"--rms_mix_rate": [0.5]},
    }[kind]
    return [str(part) for option, values in {**good, **changed}.items() for value in values for part in (option, value)]


@pytest.mark.parametrize("kind, said", [
    ("no base", "--base_model"), ("missing base", "nowhere.pth"), ("missing input", "nowhere.wav"), ("ending", ".xyz"), ("strengths", "2 strengths"),
    ("method", "crepe"), ("rate", "fast"), ("device", "nonsense"), ("both", "either"), ("root", "no RVC checkout"), ("index", "faiss"),
    ("rms", "checkout"),
])
def test_bad_options_get_one_line_and_code_2(kind, said, short, adapters, tmp_path, capsys):
    from LoraModel.inference import infer_lora
    from LoraModel.messages import cli

    assert cli(infer_lora.main, bad_command(kind, short, adapters, tmp_path)) == 2
    seen = capsys.readouterr()
    lines = [line for line in seen.err.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and said in lines[0] and seen.out == ""
    assert not (tmp_path / "o.wav").exists()


def test_a_v1_base_needs_a_checkout(tmp_path, library, short, full_network, capsys):
    from LoraModel.inference import infer_lora
    from LoraModel.messages import cli

    torch.save({"model": full_network("v1", True).state_dict()}, tmp_path / "f0G40k.pth")
    assert cli(infer_lora.main, ["--model", str(tmp_path / "f0G40k.pth"), "--input", str(short), "--output", str(tmp_path / "o.wav")]) == 2
    assert "v1" in capsys.readouterr().err and not (tmp_path / "o.wav").exists()


def test_an_unsafe_model_is_not_loaded(tmp_path, short, capsys):
    from LoraModel.inference import infer_lora
    from LoraModel.messages import cli

    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'sprung'}",)

    torch.save({"model": Trap()}, tmp_path / "bad.pth")
    assert cli(infer_lora.main, ["--model", str(tmp_path / "bad.pth"), "--input", str(short), "--output", str(tmp_path / "o.wav")]) == 2
    assert "unsafe" in capsys.readouterr().err and not (tmp_path / "sprung").exists()


def test_the_config_beside_a_custom_base_is_found(tmp_path, library):
    shutil.copy(BASE, tmp_path / "mine.pth")
    with pytest.raises(UserError, match="config.json"):
        VoiceLoader(tmp_path / "mine.pth", library)
    (tmp_path / "config.json").write_text(json.dumps(json.loads((BASE.parent / "config.json").read_text())))
    assert VoiceLoader(tmp_path / "mine.pth", library).info.sample_rate == 16000


def test_the_example_runs_and_gives_the_base_back(tmp_path, adapters):
    script = str(ROOT / "LoraModel" / "examples" / "infer_example.py")
    done = subprocess.run([sys.executable, script, *map(str, adapters)], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "infer_example"
    assert sorted(file.stem for file in out.iterdir()) == ["base", "base_again", "blend", "half", "voice"]
    assert (out / "base.wav").read_bytes() == (out / "base_again.wav").read_bytes() != (out / "voice.wav").read_bytes()
