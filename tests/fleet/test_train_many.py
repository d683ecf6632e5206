"""The command: voices trained at once come to what they come to alone, whatever is killed in between."""

import json
import os
import random
import re
import shutil
import signal
import time

import pytest
import torch
from fleet_data import alive, done_once, line, make_place, make_recordings, start, states
from training_data import log, one_thread

from LoraModel.fleet.ledger import Ledger
from LoraModel.fleet.manifest import Voice
from LoraModel.fleet.session import Session, load
from LoraModel.host import find_host
from LoraModel.lora import load_adapter
from LoraModel.messages import cli
from LoraModel.training.train_lora import main as train_lora
from LoraModel.training.train_many import main

one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)
POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory):
    """A run of three voices that was never stopped."""
    output = tmp_path_factory.mktemp("whole") / "out"
    run = start(line(place, output, "--workers", "2"))
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    return output, out, err


def same(first, second, name):
    """The same losses and the same adapter."""
    assert log(first) == log(second)
    one, two = load_adapter(first / f"{name}.safetensors"), load_adapter(second / f"{name}.safetensors")
    assert set(one.tensors) == set(two.tensors)
    assert all(torch.equal(one.tensors[key], two.tensors[key]) for key in one.tensors)


def test_every_voice_as_train_lora_trains_it(place, whole, tmp_path):
    output, out, err = whole
    assert states(output) == dict.fromkeys(("anna", "ben", "carla"), "done") and done_once(output)
    assert train_lora(["--base_model", str(place / "base.pth"), "--data_dir", str(place / "logs" / "ben"),
                       "--output_dir", str(tmp_path / "ben"), "--config", str(place / "settings.json")]) == 0
    same(output / "voices" / "ben", tmp_path / "ben", "ben")
    assert re.search(r"^ben +done ", out, re.M) and "report.html" in out
    assert "all: 3 of 3 done" in err and "ben: done in" in err
    for entry in Ledger(output).entries():
        assert entry.figures["steps"] == entry.steps == 6 and entry.seconds > 0
        listed = output / "adapters" / f"{entry.name}.safetensors"
        assert listed.is_file() == entry.figures["better"] and entry.figures["bytes"] > 1000


def test_the_report(whole):
    text = (whole[0] / "report.html").read_text(encoding="utf-8")
    for name in ("anna", "ben", "carla"):
        assert f'data-key="{name} base"' in text and f'data-key="{name} voice"' in text and f">{name}</th>" in text
    assert text.count("<audio") == 6 and "held-out log-mel L1" in text and "验证" in text


def test_the_same_command_goes_on(place, whole, tmp_path, capsys):
    """With nothing to do it does nothing; a voice more is trained; one that is named no more stays where it is."""
    output = tmp_path / "out"
    shutil.copytree(str(whole[0]), str(output))
    logs = tmp_path / "logs"
    logs.mkdir()
    for name in ("ben", "carla", "anna"):
        os.symlink(str(place / "logs" / name), str(logs / ("dora" if name == "anna" else name)))
    before = len(Ledger(output).events())
    assert main(line(place, output)) == 0 and len(Ledger(output).events()) == before
    assert main(line(place, output, "--json", voices=logs)) == 0
    said = [json.loads(text) for text in capsys.readouterr().out.splitlines() if text.startswith("{")]
    assert {one["voice"] for one in said} == {"anna", "ben", "carla", "dora"}
    assert [one["state"] for one in said if one["voice"] == "dora"][-1] == "done"
    assert states(output) == dict.fromkeys(("anna", "ben", "carla", "dora"), "done") and done_once(output)
    assert main(["--output_dir", str(output)]) == 0  # base and voices are known


def test_bad_voices_and_good_ones(place, tmp_path, capsys):
    """Each bad voice has one line, the others go on, and the exit code says so; put right, only they are tried."""
    make_recordings(tmp_path / "raw", count=2)
    shutil.copytree(str(place / "logs" / "anna"), str(tmp_path / "broken"))
    next((tmp_path / "broken" / "3_feature768").glob("*.npy")).write_bytes(b"nothing")
    shutil.copyfile(str(place / "base.pth"), str(tmp_path / "base.pth"))
    shutil.copyfile(str(place / "base.config.json" if (place / "base.config.json").exists() else place / "config.json"),
                    str(tmp_path / "config.json"))
    rows = [{"name": "good", "recordings": str(place / "logs" / "ben")},
            {"name": "raw", "recordings": str(tmp_path / "raw"), "epochs": 1},
            {"name": "broken", "recordings": str(tmp_path / "broken")},
            {"name": "gone", "recordings": str(tmp_path / "gone")},
            {"name": "otherbase", "recordings": str(place / "logs" / "ben"), "base_model": str(tmp_path / "no.pth")},
            {"name": "typo", "recordings": str(place / "logs" / "ben"), "epoch": 3}]
    (tmp_path / "m.json").write_text(json.dumps(rows), encoding="utf-8")
    output = tmp_path / "out"
    assert main(line(place, output, voices=tmp_path / "m.json")) == 1
    out, err = capsys.readouterr()
    assert states(output) == {"good": "done", "raw": "done", "broken": "failed", "gone": "failed",
                              "otherbase": "failed", "typo": "failed"}
    for name, said in (("broken", ".npy"), ("gone", "there is no folder"), ("otherbase", "no.pth"),
                       ("typo", "did you mean epochs")):
        assert re.search(rf"^{name}: failed: .*{re.escape(said)}", err, re.M), err
    assert "Traceback" not in err + out
    rows[2]["recordings"] = rows[3]["recordings"] = str(place / "logs" / "carla")
    del rows[4:]
    (tmp_path / "m.json").write_text(json.dumps(rows), encoding="utf-8")
    assert main(line(place, output, voices=tmp_path / "m.json")) == 0
    assert states(output) == dict.fromkeys(("good", "raw", "broken", "gone"), "done") and done_once(output)


def test_a_folder_that_is_not_the_runs(place, whole, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    one = tmp_path / "one"
    one.mkdir()
    (one / "run.json").write_text("{}")
    for output, said in ((other, "not of a run of many voices"), (one, "the run of one voice")):
        assert cli(main, line(place, output)) == 2
        assert said in capsys.readouterr().err
    options = line(place, whole[0])
    options[1] = str(other_base(place, tmp_path / "base"))
    assert cli(main, options) == 2 and "another base" in capsys.readouterr().err
    assert cli(main, ["--output_dir", str(tmp_path / "new")]) == 2
    assert "--base_model is missing" in capsys.readouterr().err


def other_base(place, folder):
    """A base of other weights in `folder`."""
    base = torch.load(str(place / "base.pth"), weights_only=True)
    base["model"]["emb_g.weight"] = base["model"]["emb_g.weight"] + 1
    folder.mkdir(exist_ok=True)
    shutil.copyfile(str(place / "config.json"), str(folder / "config.json"))
    torch.save(base, str(folder / "base.pth"))
    return folder / "base.pth"


def hash_of(path):
    return load(find_host(), str(path), None, None).info.base_hash


def trained_on(output):
    """The base of each voice's adapter."""
    return {name: load_adapter(output / "voices" / name / f"{name}.safetensors").metadata["base_hash"]
            for name, state in states(output).items() if state == "done"}


def only(place, tmp_path, name):
    """A folder with one of the voices."""
    logs = tmp_path / f"only {name}"
    logs.mkdir()
    os.symlink(str(place / "logs" / name), str(logs / name))
    return logs


def test_another_base_for_voices_that_wait(place, tmp_path, capsys):
    """It is refused, whether or not the voices are named again; without any the run's own is taken. So it is where the
    file of that name is another one meanwhile."""
    output, first = tmp_path / "out", tmp_path / "first"
    shutil.copytree(str(place), str(first))
    other = other_base(place, tmp_path / "other")
    words = line(first, output, voices=only(place, tmp_path, "anna"))
    assert main(words) == 0 and "other settings" not in capsys.readouterr().err
    assert main([*words, "--noise", "1"]) == 0
    assert "done with other settings, and left as they are: anna" in capsys.readouterr().err
    Ledger(output).add([Voice("ben", str(place / "logs" / "ben"), {}, True)])
    assert cli(main, ["--output_dir", str(output), "--base_model", str(other)]) == 2
    assert "holds a run on another base" in capsys.readouterr().err
    shutil.copyfile(str(first / "base.pth"), str(tmp_path / "kept.pth"))
    shutil.copyfile(str(other), str(first / "base.pth"))
    assert cli(main, ["--output_dir", str(output)]) == 2
    assert "was changed since the run in" in capsys.readouterr().err
    assert states(output) == {"anna": "done", "ben": "waiting"}
    shutil.move(str(tmp_path / "kept.pth"), str(first / "moved.pth"))  # the same base under another name
    assert main(["--output_dir", str(output), "--base_model", str(first / "moved.pth"), "--noise", "1"]) == 0
    assert "--noise changed nothing" in capsys.readouterr().err
    assert trained_on(output) == dict.fromkeys(("anna", "ben"), hash_of(place / "base.pth"))
    assert Session(output).work.base_model == str(first / "moved.pth")


def test_voices_that_name_their_base(place, tmp_path):
    """Each is trained on it, whichever of them the process shares, as in the page's queue."""
    output, first, second = tmp_path / "out", place / "base.pth", other_base(place, tmp_path / "other")
    settings = json.loads((place / "settings.json").read_text(encoding="utf-8"))

    def voice(name, base):
        return Voice(name, str(place / "logs" / name), {**settings, "epochs": 1, "base_model": str(base)}, True)

    ledger = Ledger(output)
    ledger.add([voice("anna", first)])
    assert main(["--output_dir", str(output), "--base_model", str(first), "--workers", "1"]) == 0
    ledger.add([voice("ben", second), voice("carla", first)])
    assert main(["--output_dir", str(output), "--base_model", str(second), "--workers", "1"]) == 0
    one, two = hash_of(first), hash_of(second)
    assert one != two and trained_on(output) == {"anna": one, "ben": two, "carla": one} and done_once(output)


def wait_for(run, output, what, seconds=120):
    """Wait until `what(entries)` holds."""
    end = time.time() + seconds
    while True:
        with_file = (output / "fleet.sqlite").is_file()
        if with_file and what(Ledger(output).entries()):
            return
        assert run.poll() is None, run.communicate()[1]
        assert time.time() < end
        time.sleep(0.02)


@POSIX
def test_killed_again_and_again(place, whole, tmp_path):
    """kill -9 of the command alone, its workers left to themselves: they end, the next run takes over, and every voice
    is done once with the adapter that it has when nothing is killed."""
    output = tmp_path / "out"
    moments = random.Random(4)
    for count in range(2):
        run = start(line(place, output, "--workers", "2"))
        wait_for(run, output, lambda entries, least=4 * count: sum(entry.step for entry in entries) > least)
        time.sleep(moments.uniform(0, 0.3))
        os.kill(run.pid, signal.SIGKILL)
        run.communicate()
    run = start(line(place, output, "--workers", "2"))
    err = run.communicate(timeout=200)[1]
    assert run.returncode == 0, err
    assert states(output) == dict.fromkeys(("anna", "ben", "carla"), "done") and done_once(output)
    for name in ("anna", "ben", "carla"):
        same(output / "voices" / name, whole[0] / "voices" / name, name)


@POSIX
def test_a_worker_that_is_killed(place, whole, tmp_path):
    """Its voice is taken up from the last save by another one."""
    output = tmp_path / "out"
    run = start(line(place, output, "--workers", "2"))
    wait_for(run, output, lambda entries: any(entry.state == "training" and entry.step >= 2 for entry in entries))
    children = [int(pid) for pid in open(f"/proc/{run.pid}/task/{run.pid}/children").read().split()]
    assert children
    os.kill(children[0], signal.SIGKILL)
    err = run.communicate(timeout=200)[1]
    assert run.returncode == 0, err
    assert sum(entry.lost for entry in Ledger(output).entries()) == 1 and done_once(output)
    for name in ("anna", "ben", "carla"):
        same(output / "voices" / name, whole[0] / "voices" / name, name)
    assert not any(alive(pid) for pid in children)


@POSIX
def test_asked_to_stop(place, whole, tmp_path):
    """Ctrl-C saves what trains and ends; the rest waits for the same command."""
    output = tmp_path / "out"
    run = start(line(place, output, "--workers", "1"))
    wait_for(run, output, lambda entries: any(entry.step >= 1 and entry.state == "training" for entry in entries))
    run.send_signal(signal.SIGINT)
    err = run.communicate(timeout=60)[1]
    assert run.returncode == 0 and "saving what trains" in err and "Traceback" not in err
    found = states(output)
    assert "waiting" in found.values() and "training" not in found.values()
    run = start(line(place, output, "--workers", "2"))
    assert run.communicate(timeout=200)[1] and run.returncode == 0
    same(output / "voices" / "anna", whole[0] / "voices" / "anna", "anna")
