"""A run that is stopped in any way goes on as if it never had been: same losses to the last digit, same adapter."""

import json
import os
import random
import shutil
import signal
import threading
import time

import pytest
import torch
from killing import kill
from training_data import argv, log, make_experiment, one_thread, start
from training_data import tiny_settings as settings

from LoraModel.lora import load_adapter
from LoraModel.messages import UserError, cli
from LoraModel.training import TrainConfig, prepare
from LoraModel.training.train_lora import main

one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)
POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("logs") / "voice", clips=6, seconds=1.0)


def line_of(voice, output, *flags, **more):
    """A run of 12 steps that saves every third, with dropout so that every step draws random numbers of its own."""
    lora = {"r": 2, "lora_alpha": 4, "lora_dropout": 0.1,
            "targets": {"enc_p_ffn": True, "flow": True, "ups": True, "spk_row": True}}
    values = settings(voice, output, epochs=4, lora=lora, **more)
    return argv(values, *flags, config=output.parent / f"{output.name}.json")


def same(a, b):
    """The same losses, held-out losses and adapters."""
    assert log(a) == log(b)
    for name in ("voice.safetensors", "voice_last.safetensors"):
        first, second = load_adapter(a / name), load_adapter(b / name)
        assert set(first.tensors) == set(second.tensors)
        assert all(torch.equal(first.tensors[key], second.tensors[key]) for key in first.tensors)
        assert {k: v for k, v in first.metadata.items() if k not in ("created", "checksum")} == \
            {k: v for k, v in second.metadata.items() if k not in ("created", "checksum")}
    states = [torch.load(str(path / "state.pt"), weights_only=True) for path in (a, b)]
    for state in states:
        state.pop("train_seconds")
    assert json.dumps(states[0], default=lambda t: t.tolist()) == json.dumps(states[1], default=lambda t: t.tolist())


@pytest.fixture(scope="module")
def whole(voice, tmp_path_factory):
    """The run that was never stopped."""
    output = tmp_path_factory.mktemp("whole") / "out"
    run = start(line_of(voice, output))
    err = run.communicate(timeout=200)[1]
    assert run.returncode == 0, err
    assert len(log(output)) == 12
    return output


def steps_done(output):
    try:
        return (output / "train.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0


def wait_for(run, output, steps):
    """Wait until so many steps are in the log."""
    end = time.time() + 120
    while steps_done(output) < steps:
        assert run.poll() is None, run.communicate()[1]
        assert time.time() < end
        time.sleep(0.01)


def finish(voice, output, *more):
    run = start(line_of(voice, output, "--resume", *more))
    err = run.communicate(timeout=200)[1]
    assert run.returncode == 0, err


@POSIX
def test_killed_again_and_again(voice, tmp_path, whole):
    """SIGKILL three times: in the first steps, and at random moments around two saves."""
    output = tmp_path / "out"
    moments = random.Random(5)
    for flags, step in (((), 1), (("--resume",), 3), (("--resume",), 8)):
        run = start(line_of(voice, output, *flags))
        wait_for(run, output, step)
        assert kill(run, moments.uniform(0, 0.15))
    assert json.loads((output / "run.json").read_text(encoding="utf-8"))["state"] == "running"
    finish(voice, output)
    same(whole, output)
    assert json.loads((output / "run.json").read_text(encoding="utf-8"))["state"] == "done"


@pytest.mark.parametrize("point", ["best adapter", "last adapter", "state", "state renamed"])
def test_broken_off_in_the_middle_of_a_save(voice, tmp_path, whole, monkeypatch, point):
    """The machine stops at each point of the second save. What was there before it is what the run goes on from."""
    import LoraModel.files as files

    class Off(BaseException):
        """As sudden as a power cut: nothing handles it."""

    output = tmp_path / "out"
    wanted = {"best adapter": "voice.safetensors", "last adapter": "voice_last.safetensors"}.get(point, "state.pt")
    real, written = os.replace, []

    def replace(source, target):
        if os.path.basename(target) == wanted and steps_done(output) >= (5 if wanted == "voice.safetensors" else 6):
            written.append(target)
            if point == "state renamed":
                real(source, target)
            else:
                shutil.copyfile(source, str(output / ".left.tmp"))  # a half-made file stays behind
            raise Off
        real(source, target)

    monkeypatch.setattr(files.os, "replace", replace)
    with pytest.raises(Off):
        main(line_of(voice, output))
    monkeypatch.setattr(files.os, "replace", real)
    assert written
    state = torch.load(str(output / "state.pt"), weights_only=True)
    assert state["steps"] == (6 if point == "state renamed" else 3)
    load_adapter(output / "voice.safetensors"), load_adapter(output / "voice_last.safetensors")
    assert main(line_of(voice, output, "--resume")) == 0
    same(whole, output)


@POSIX
def test_ctrl_c(voice, tmp_path, whole, capfd):
    """SIGINT in this process, which gets its own handlers back, then resumed."""
    output = tmp_path / "out"
    former = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def press():
        end = time.time() + 60
        while steps_done(output) < 2 and time.time() < end:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    assert main(line_of(voice, output)) == 0
    presser.join()
    assert 2 <= len(log(output)) < 12 and "stopped and saved" in capfd.readouterr().err
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == former
    assert main(line_of(voice, output, "--resume")) == 0
    same(whole, output)


@POSIX
def test_asked_to_stop(voice, tmp_path, whole):
    """SIGTERM, as SIGINT, finishes the step, saves, and exits 0, in the middle of an epoch too."""
    output = tmp_path / "out"
    run = start(line_of(voice, output))
    wait_for(run, output, 4)
    run.send_signal(signal.SIGTERM)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0 and "Traceback" not in err
    assert "stopping after this step" in err and "stopped and saved: continue with --resume" in err and not out
    state = torch.load(str(output / "state.pt"), weights_only=True)
    assert 4 <= state["steps"] < 12 and state["steps"] == len(log(output))
    assert json.loads((output / "run.json").read_text(encoding="utf-8"))["state"] == "stopped"
    assert main(line_of(voice, output, "--resume")) == 0
    same(whole, output)


@POSIX
def test_stopped_before_the_first_step_and_broken_off(voice, tmp_path):
    """Before anything is trained, or asked twice, the program ends at once, in one line and not as a success."""
    from LoraModel.training import train_lora

    former = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    undo = train_lora.handle_signals(None)
    try:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
    finally:
        undo()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == former
    run = start(line_of(voice, tmp_path / "out", "--epochs", "400"))
    wait_for(run, tmp_path / "out", 1)
    run.send_signal(signal.SIGTERM)
    run.send_signal(signal.SIGINT)
    time.sleep(0.002)
    run.send_signal(signal.SIGINT)
    err = run.communicate(timeout=60)[1]
    assert run.returncode in (0, 130) and "Traceback" not in err
    assert ("stopped at once" in err) == (run.returncode == 130)


def test_a_stop_file(voice, tmp_path, whole):
    """What the WebUI writes to stop a run."""
    output = tmp_path / "out"
    output.mkdir()
    (output / "stop").write_text("")
    assert main(line_of(voice, output)) == 0
    assert len(log(output)) == 1 and not (output / "stop").exists()
    trainer = prepare(TrainConfig.from_dict({**settings(voice, output),
                                             **json.loads((tmp_path / "out.json").read_text())}), resume=True)
    trainer.stop_asked = True
    assert trainer.run() is False and len(log(output)) == 2
    assert main(line_of(voice, output, "--resume")) == 0
    same(whole, output)


def test_resume_of_a_finished_run(voice, tmp_path, whole, capsys):
    output = tmp_path / "out"
    shutil.copytree(str(whole), str(output))
    assert main(line_of(voice, output, "--resume")) == 0
    assert "Held-out log-mel L1" in capsys.readouterr().out
    same(whole, output)


def test_resume_goes_on_for_more_epochs(voice, tmp_path, whole):
    output = tmp_path / "out"
    shutil.copytree(str(whole), str(output))
    assert main(line_of(voice, output, "--resume", "--epochs", "5")) == 0
    assert log(output)[:12] == log(whole) and len(log(output)) == 15


def test_resume_where_there_is_nothing_begins(voice, tmp_path, whole):
    assert main(line_of(voice, tmp_path / "out", "--resume")) == 0
    same(whole, tmp_path / "out")


@pytest.mark.parametrize("flags, name", [(("--lora_rank", "3"), "lora"), (("--batch_size", "3"), "batch_size"),
                                         (("--seed", "5"), "seed"), (("--valid_fraction", "0.5"), "clips")])
def test_resume_with_other_settings(voice, tmp_path, whole, capsys, flags, name):
    output = tmp_path / "out"
    shutil.copytree(str(whole), str(output))
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    config = line_of(voice, output, "--resume", *flags)
    if name == "lora":
        values = json.loads((tmp_path / "out.json").read_text())
        values.pop("lora")
        (tmp_path / "out.json").write_text(json.dumps(values))
    assert cli(main, config) == 2
    err = capsys.readouterr().err
    assert f"the saved run has {name} " in err and "use the same settings" in err
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("damage", ["cut", "garbage", "other"])
def test_a_damaged_state(voice, tmp_path, whole, damage):
    output = tmp_path / "out"
    shutil.copytree(str(whole), str(output))
    path = output / "state.pt"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "garbage":
        path.write_bytes(b"garbage")
    else:
        torch.save({"weights": torch.zeros(3)}, str(path))
    with pytest.raises(UserError, match="delete it to begin anew"):
        main(line_of(voice, output, "--resume"))


def test_with_a_discriminator(voice, tmp_path, library):
    """--base_d: RVC's own (random weights), with adversarial and feature losses, killed and resumed. Only its
    LoRA is kept."""
    torch.manual_seed(3)
    network = library.build_discriminator("v2")
    torch.save({"model": {key: value.half() for key, value in network.state_dict().items()}}, str(tmp_path / "D.pth"))
    size = sum(p.numel() for p in network.parameters())
    del network
    more = {"base_d": str(tmp_path / "D.pth"), "segment_frames": 8, "batch_size": 1, "valid_fraction": 0.7,
            "valid_clips": 1}
    whole, broken = tmp_path / "whole", tmp_path / "broken"

    def config(output):
        return TrainConfig.from_dict(settings(voice, output, **{**more, "epochs": 1}))

    trainer = prepare(config(whole))
    before = {key: value.clone() for key, value in trainer.adversary.network.state_dict().items()}
    assert trainer.run() is True and size > 70_000_000
    now = trainer.adversary.network.state_dict()
    assert all(torch.equal(now[key], before[key]) for key in before)
    lines = log(whole)
    assert len(lines) == 2 and all({"gen", "fm", "disc", "mel", "kl"} <= set(line) and "stft" not in line
                                   for line in lines)
    learnt = [tensor for name, tensor in trainer.adversary.injection.tensors().items() if "lora_B" in name]
    assert learnt and all(bool(tensor.detach().abs().max() > 0) for tensor in learnt)
    state = torch.load(str(whole / "state.pt"), weights_only=True)
    assert sum(t.numel() for t in state["adversary"]["lora"].values()) < 0.02 * size
    assert sum(path.stat().st_size for path in whole.rglob("*") if path.is_file()) < 60 * 2**20
    assert load_adapter(whole / "voice.safetensors").config.targets.keys() == {"enc_p_ffn", "flow", "ups", "spk_row"}
    del trainer, before, now
    first = prepare(config(broken))
    first.stop_asked = True
    assert first.run() is False and len(log(broken)) == 1
    del first
    assert prepare(config(broken), resume=True).run() is True
    same(whole, broken)


def test_a_start_speaker_without_a_row_of_its_own(voice, tmp_path):
    """Where the speaker's row is not adapted the posterior stays with it, resumed or not."""
    lora = {"r": 2, "lora_alpha": 4, "targets": {"flow": True}}
    whole, broken = (TrainConfig.from_dict(settings(voice, tmp_path / name, epochs=1, lora=lora, init_speaker=3))
                     for name in ("a", "b"))
    assert prepare(whole).run() is True
    first = prepare(broken)
    first.stop_asked = True
    assert first.run() is False
    assert prepare(broken, resume=True).run() is True
    same(tmp_path / "a", tmp_path / "b")
