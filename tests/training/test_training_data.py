"""What the trainer reads: filelists of every form, clips of every format, what is kept out of training; and its
losses."""

import os
import shutil
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch
from training_data import BASE, DEMO, HOP, RATE, make_experiment, make_mute, one_thread, write_filelist

from LoraModel.host.networks import Mel
from LoraModel.messages import UserError
from LoraModel.models import load_base
from LoraModel.models.synthesizer_lora import Posterior, Prior
from LoraModel.training import TrainConfig, losses
from LoraModel.training.data_loader import Clip, ClipSet, epoch_batches, read_experiment, split
from LoraModel.training.losses import prior_loss, random_starts, slice_frames, stft_loss
from LoraModel.training.objective import Objective
from LoraModel.training.validate import check_experiment

one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)


@pytest.fixture(scope="module")
def info(library):
    return load_base(BASE, library, config_json=DEMO / "base" / "config.json").info


@pytest.fixture
def voice(tmp_path):
    return make_experiment(tmp_path / "logs" / "voice", clips=3, seconds=0.8)


def clip_set(experiment, library, segment=0):
    return ClipSet(experiment.clips, library, experiment.data, True, segment)


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b))


# Filelists


def test_forms_of_the_filelist(voice, tmp_path, library, info):
    """No filelist, RVC's absolute paths, a folder that was moved from Linux or Windows, and relative paths: the same
    clips."""
    scanned = read_experiment(voice, library, info)
    assert [clip.wav.name for clip in scanned.clips] == ["0_0.wav", "1_0.wav", "2_0.wav"]
    expected = clip_set(scanned, library)
    for where in (None, "/home/someone/RVC/logs/voice", "D:\\\\RVC\\\\logs\\\\voice", "logs/voice"):
        write_filelist(voice, where=where)
        experiment = read_experiment(voice, library, info)
        assert [clip[:4] for clip in experiment.clips] == [clip[:4] for clip in scanned.clips]
        clips = clip_set(experiment, library)
        assert equal(clips.batch([0, 1, 2]), expected.batch([0, 1, 2]))


def test_a_copied_folder_reads_its_own_clips(voice, tmp_path, library, info):
    write_filelist(voice)
    shutil.copytree(str(voice), str(tmp_path / "copy"))
    assert all(tmp_path / "copy" in path.parents for clip in read_experiment(tmp_path / "copy", library, info).clips
               for path in clip.paths())


@pytest.mark.parametrize("lacking", ["3_feature768", "2b-f0nsf/1_0.wav.npy", "0_gt_wavs/0_0.wav", "1_0"])
def test_a_copy_that_lacks_files_takes_none_of_the_folder_it_was_copied_from(voice, tmp_path, library, info, lacking):
    write_filelist(voice)
    copy = tmp_path / "copy"
    shutil.copytree(str(voice), str(copy))
    gone = [path for path in copy.rglob("*_0.*") if lacking in path.as_posix()]
    for path in gone:
        path.unlink()
    clips = read_experiment(copy, library, info).clips
    assert gone and {path for clip in clips for path in clip.paths() if not path.exists()} == set(gone)
    with pytest.raises(UserError, match="is listed but missing|is missing but"):
        check_experiment(read_experiment(copy, library, info), info, 12)


def test_clips_of_silence(voice, tmp_path, library, info):
    """RVC adds two lines of its logs/mute. They are trained on, never held out, not counted, and not needed."""
    mute = make_mute(tmp_path / "logs" / "mute")
    write_filelist(voice, [mute, mute])
    experiment = read_experiment(voice, library, info)
    assert [clip.mute for clip in experiment.clips] == [False, False, False, True, True]
    for seed in range(10):
        train, held = split(experiment.clips, 0.5, seed)
        assert sum(clip.mute for clip in train) == 2 and not any(clip.mute for clip in held) and len(held) == 2
    assert clip_set(experiment, library).seconds == pytest.approx(3 * 0.8, abs=0.05)
    shutil.rmtree(str(tmp_path / "logs" / "mute"))
    assert len(read_experiment(voice, library, info).clips) == 3


def test_a_folder_named_mute_and_a_linked_one(voice, tmp_path, library, info):
    voice.rename(tmp_path / "mute")
    write_filelist(tmp_path / "mute")
    assert [clip.mute for clip in read_experiment(tmp_path / "mute", library, info).clips] == [False] * 3
    (tmp_path / "linked").symlink_to(tmp_path / "mute", target_is_directory=True)
    write_filelist(tmp_path / "mute", where=tmp_path / "linked")
    assert [clip.mute for clip in read_experiment(tmp_path / "linked", library, info).clips] == [False] * 3


def test_clips_of_other_experiments(voice, tmp_path, library, info, capsys):
    other = make_experiment(tmp_path / "logs" / "other", clips=2, seconds=0.8)
    lines = write_filelist(other).read_text(encoding="utf-8").replace("0_0", "7_0").replace("1_0", "8_0")
    for path in [path for path in other.rglob("*_0.*") if path.is_file()]:
        path.rename(path.with_name(path.name.replace("0_0", "7_0").replace("1_0", "8_0")))
    write_filelist(voice, lines.splitlines())
    experiment = read_experiment(voice, library, info)
    assert len(experiment.clips) == 5 and not any(clip.mute for clip in experiment.clips)
    assert len(clip_set(experiment, library)) == 5
    elsewhere = f"2 of 5 clips that {voice}/filelist.txt names lie elsewhere, such as {other}/0_gt_wavs/7_0.wav"
    assert elsewhere in capsys.readouterr().err


def test_clips_of_another_experiment_with_the_same_names(voice, tmp_path, library, info):
    other = make_experiment(tmp_path / "logs" / "other", clips=2, seconds=0.8)
    write_filelist(voice, write_filelist(other).read_text(encoding="utf-8").splitlines())
    clips = read_experiment(voice, library, info).clips
    assert [clip.wav.parent.parent for clip in clips] == [voice] * 3 + [other] * 2
    assert all(path.parent.parent == clip.wav.parent.parent for clip in clips for path in clip.paths())


# Clips


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_clips_of_integers_are_scaled_and_floats_are_not(voice, library, info, subtype):
    wavs = sorted((voice / "0_gt_wavs").glob("*.wav"))
    audio = [soundfile.read(str(path), dtype="float32")[0] for path in wavs]
    for path, samples in zip(wavs, audio):
        soundfile.write(str(path), samples, RATE, subtype=subtype)
    clips = clip_set(read_experiment(voice, library, info), library)
    for index, samples in enumerate(audio):
        wave = clips.batch([index]).wave[0, 0].numpy()
        expected = samples[: len(wave)]
        if subtype in ("FLOAT", "DOUBLE"):
            assert np.array_equal(wave, expected)
        else:
            assert np.abs(wave - expected).max() < 2 / 32768


def test_a_spectrogram_of_earlier_recordings_is_not_taken(voice, library, info):
    """RVC keeps spectrograms beside the clips and never looks whether the clip is still the same one."""
    wav = voice / "0_gt_wavs" / "0_0.wav"
    cache = wav.with_name("0_0.spec.pt")
    before = clip_set(read_experiment(voice, library, info), library).batch([0]).spec
    audio, _ = soundfile.read(str(wav), dtype="float32")
    if not cache.exists():
        torch.save(before[0], str(cache))
    soundfile.write(str(wav), audio[::-1], RATE, subtype="FLOAT")
    later = cache.stat().st_mtime + 5
    os.utime(str(wav), (later, later))
    after = clip_set(read_experiment(voice, library, info), library).batch([0]).spec
    frames = min(before.shape[2], after.shape[2])
    assert (before[..., :frames] - after[..., :frames]).abs().mean() > 0.1


def test_short_clips_are_left_out_and_counted(voice, library, info):
    short = make_experiment(voice.parent / "short", clips=1, seconds=0.3)
    for path in [path for path in short.rglob("0_0*") if path.is_file()]:
        shutil.copyfile(str(path), str(voice / path.parent.name / path.name))
    clips = clip_set(read_experiment(voice, library, info), library, 40)
    assert len(clips) == 2 and clips.dropped == 1 and [clip.wav.name for clip in clips.clips] == ["1_0.wav", "2_0.wav"]


@pytest.mark.parametrize("count,steps", [(45, 12), (32, 8), (3, 1), (1, 1)])
def test_an_epoch_takes_every_clip_once(count, steps):
    frames = torch.randint(10, 300, (count,)).tolist()
    for epoch in range(3):
        batches = epoch_batches(frames, 4, 1, epoch)
        assert len(batches) == steps and max(map(len, batches)) == min(count, 4)
        assert sorted(index for batch in batches for index in batch) == list(range(count))
        assert batches == epoch_batches(frames, 4, 1, epoch)


def test_epochs_and_seeds_differ_in_order():
    orders = {str(epoch_batches([50] * 45, 4, seed, epoch)) for seed in (1, 2) for epoch in range(3)}
    assert len(orders) == 6


def test_clips_of_like_length_go_together():
    frames = torch.randperm(32).tolist()
    assert all(max(frames[i] for i in batch) - min(frames[i] for i in batch) == 3
               for batch in epoch_batches(frames, 4, 1, 0))


def test_steps_of_an_epoch(voice, library, info):
    clips = clip_set(read_experiment(voice, library, info), library)
    assert len(clips) == 3 and clips.steps_per_epoch(2) == 2 == len(clips.epoch(2, 1, 0))


# What is kept out


def names(*slices):
    """Clips as RVC names them: slices[i] slices of recording i."""
    return [Clip(Path(f"{i}_{k}.wav"), Path(f"{i}_{k}.npy"), None, None, 0) for i, count in enumerate(slices)
            for k in range(count)]


def recordings(clips):
    return {clip.wav.stem.split("_")[0] for clip in clips}


def test_whole_recordings_are_kept_out():
    clips = names(3, 4, 2, 5, 3, 4, 3, 2, 4)
    for seed in range(20):
        train, held = split(clips, 0.2, seed)
        assert not recordings(train) & recordings(held) and len(train) + len(held) == len(clips) and 2 <= len(held) <= 9
        assert split(list(reversed(clips)), 0.2, seed)[1] == held  # names and seed alone decide
    assert len({str(split(clips, 0.2, seed)[1]) for seed in range(20)}) > 5


@pytest.mark.parametrize("slices", [(300, 1, 1, 1, 1), (40, 40, 40, 40, 40), (1, 1), (50,), (2, 1, 1)])
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5])
def test_never_much_more_than_asked_for(slices, fraction):
    """One long recording among short ones is not kept out whole."""
    clips = names(*slices)
    wanted = max(1, round(fraction * len(clips)))
    for seed in range(20):
        train, held = split(clips, fraction, seed)
        assert 1 <= len(held) <= max(1, 1.5 * wanted) and len(train) >= 1 and not set(train) & set(held)


# Losses


def test_prior_loss_is_the_hosts(library):
    random = [torch.randn(2, 4, 7) for _ in range(5)]
    mask = (torch.arange(7) < torch.tensor([[7], [5]])).float()[:, None]
    got = prior_loss(library, Prior(random[0], random[1], random[2]), Posterior(random[3], random[4], mask))
    assert torch.equal(got, library.module("losses").kl_loss(random[0], random[4], random[1], random[2], mask))
    by_hand = random[2] - random[4] - 0.5 + 0.5 * (random[0] - random[1]) ** 2 * torch.exp(-2 * random[2])
    assert float(got) == pytest.approx(float((by_hand * mask).sum() / mask.sum()), rel=1e-5)


def test_mel_after_another_sample_rate(library):
    """The host keeps its mel filters by fmax alone: those of another sample rate must not be taken."""
    audio = torch.randn(1, 8000) * 0.1
    data = [library.config_for("v2", rate)["data"] for rate in (48000, 32000)]
    mels = [Mel(library, part) for part in data]
    for part, mel in list(zip(data, mels)) * 2:
        filters = torch.from_numpy(librosa.filters.mel(sr=part["sampling_rate"], n_fft=part["filter_length"],
                                                       n_mels=part["n_mel_channels"],
                                                       fmin=part["mel_fmin"], fmax=part["mel_fmax"]))
        spec = library.module("mel").spectrogram_torch(audio, part["filter_length"], part["sampling_rate"],
                                                       part["hop_length"], part["win_length"])
        expected = torch.log((filters @ spec).clamp(min=1e-5))
        assert torch.allclose(mel.of_audio(audio), expected,
                              atol=1e-5) and torch.allclose(mel.of_spectrogram(spec), expected, atol=1e-5)


def test_stft_loss():
    audio = torch.randn(2, 4000) * 0.1
    assert float(stft_loss(audio, audio)) == 0
    near, far = (float(stft_loss(audio + level * torch.randn(2, 4000), audio)) for level in (0.001, 0.1))
    assert 0 < near < far
    assert float(stft_loss(torch.zeros(2, 4000), audio)) > 3  # silence: convergence of 1 at each of three sizes
    sure = audio.clone().requires_grad_()
    stft_loss(sure, torch.zeros(2, 4000)).backward()
    assert bool(torch.isfinite(sure.grad).all())


def test_slices_line_up():
    """Frames and samples of a slice are of the same stretch, and stay inside each clip."""
    lengths = torch.tensor([50, 32, 41])
    frames = torch.arange(60).expand(3, 2, 60)
    samples = torch.arange(60 * HOP).expand(3, 1, 60 * HOP)
    seen = set()
    for _ in range(200):
        starts = random_starts(lengths, 32)
        assert bool((starts >= 0).all()) and bool((starts + 32 <= lengths).all())
        seen.add(tuple(starts.tolist()))
        a, b = slice_frames(frames, starts, 32), slice_frames(samples, starts * HOP, 32 * HOP)
        assert a.shape == (3, 2, 32) and b.shape == (3, 1, 32 * HOP) and torch.equal(b[:, 0, ::HOP], a[:, 0] * HOP)
    assert {starts[1] for starts in seen} == {0} and {starts[0] for starts in seen} == set(range(19))


def test_a_further_loss_is_one_line(monkeypatch):
    """It is computed, weighted and summed with the others, and left out where a discriminator takes its place."""
    made = losses.Decoded(torch.ones(1, 8), torch.zeros(1, 8), torch.full((1, 2, 3), 2.0), torch.zeros(1, 2, 3))
    assert float(losses.DECODER_LOSSES["mel"].of(made)) == 2.0 and losses.DECODER_LOSSES["stft"].alone
    monkeypatch.setitem(losses.DECODER_LOSSES, "wave", losses.Loss(lambda made: (made.audio - made.real).abs().mean(),
                                                                   weight=3.0))
    config = TrainConfig("b", "d", "o", c_hold=4.0)
    objective = Objective(None, None, None, config, torch.device("cpu"), 1, 1, None, None)
    assert list(objective.weights) == ["kl", "mel", "stft", "hold", "wave", "gen", "fm"]
    assert objective.weights["wave"] == 3.0 and objective.weights["mel"] == TrainConfig.c_mel
    found = {name: loss.of(made) for name, loss in losses.DECODER_LOSSES.items() if name != "stft"}
    assert found.pop("hold") is None  # nothing to compare with
    assert float(objective.total(found)) == 2.0 * TrainConfig.c_mel + 3.0
    found["hold"] = losses.hold_loss(made._replace(base_mel=torch.full((1, 2, 3), 2.5)))
    whole = 2.0 * TrainConfig.c_mel + 3.0 + (0.5 - 0.05) * 4.0
    assert float(objective.total(found)) == pytest.approx(whole)
