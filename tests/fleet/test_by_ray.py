"""The cluster engine, on two nodes of this machine: workers and a whole node are killed amid the work."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fleet_data import done_once, make_one_recording, make_place, make_recordings, session_of, states
from training_data import ROOT, log, one_thread

from LoraModel.fleet.by_ray import ray_module
from LoraModel.fleet.manifest import Voice
from LoraModel.fleet.parcel import is_here, listing, packed, unpack
from LoraModel.lora import load_adapter
from LoraModel.messages import UserError, cli
from LoraModel.training.train_many import main

one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)
NAMES = ("anna", "ben", "carla", "dora")


def test_a_parcel(tmp_path):
    folder = tmp_path / "a"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "c.txt").write_bytes(b"one")
    (folder / "d.tmp").write_bytes(b"no")
    (folder / "e").write_bytes(b"two")
    known = {}
    parcel = packed(folder, ("x",), known)
    assert parcel == {"b/c.txt": b"one", "e": b"two"} and packed(folder, (), known) == {}
    (folder / "e").write_bytes(b"three")
    assert packed(folder, ("b",), known) == {"e": b"three"}
    unpack(parcel, tmp_path / "z")
    assert (tmp_path / "z" / "b" / "c.txt").read_bytes() == b"one"
    assert is_here(folder, listing(folder)) and not is_here(tmp_path / "z", listing(folder))
    for name in ("../x", "/x", "a/../../x", "a\\..\\x", "C:x", ""):
        with pytest.raises(UserError, match="leads out of"):
            unpack({"good": b"", name: b""}, tmp_path / "y")
    assert not (tmp_path / "y").exists()


def test_a_parcel_of_one_file(tmp_path):
    """A voice's recordings may be one file; what lies beside it is not sent."""
    (tmp_path / "a").mkdir()
    recording = tmp_path / "a" / "take 1.wav"
    recording.write_bytes(b"sound")
    (tmp_path / "a" / "secret").write_bytes(b"no")
    assert packed(recording) == {"take 1.wav": b"sound"}
    known = listing(recording)
    assert [one[:2] for one in known] == [("take 1.wav", 5)] and is_here(recording, known)
    assert not is_here(tmp_path / "a", known) and not is_here(tmp_path / "b" / "take 1.wav", known)
    unpack(packed(recording), tmp_path / "z")
    assert (tmp_path / "z" / "take 1.wav").read_bytes() == b"sound"
    recording.write_bytes(b"others")
    assert not is_here(recording, known)


def test_a_parcel_passes_over_what_is_no_file(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"sound")
    os.symlink(str(tmp_path / "gone.wav"), str(tmp_path / "b.wav"))
    assert packed(tmp_path) == {"a.wav": b"sound"}


def test_without_ray(tmp_path, monkeypatch, capsys):
    """The local engine needs none of it; --engine ray says what to install."""
    import importlib

    place = make_place(tmp_path / "place", NAMES[:1])
    real = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name, *rest: (_ for _ in ()).throw(ImportError(name))
                        if name == "ray" else real(name, *rest))
    options = ["--base_model", str(place / "base.pth"), "--voices", str(place / "logs"), "--output_dir",
               str(tmp_path / "out"), "--engine", "ray"]
    assert cli(main, options) == 2 and "requirements-fleet.txt" in capsys.readouterr().err


@pytest.mark.parametrize("ray,pydantic,fits", [("2.52.1", "1.10.27", True), ("2.53.0", "1.10.27", False),
                                                ("2.60.0", "2.9.0", True), ("3.0.0.dev0", "2.9.0", True)])
def test_a_ray_that_cannot_start_beside_gradio_is_named(ray, pydantic, fits, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(__version__=ray))
    monkeypatch.setitem(sys.modules, "pydantic", SimpleNamespace(VERSION=pydantic))
    if fits:
        assert ray_module().__version__ == ray
    else:
        with pytest.raises(UserError, match="Ray 2.53.0 needs pydantic 2"):
            ray_module()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("place"), NAMES)


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes with a core each."""
    pytest.importorskip("ray.cluster_utils")
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'helpers'}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    size = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    both = Cluster(initialize_head=True, head_node_args=size)
    both.second = both.add_node(**size)
    both.wait_for_nodes()
    yield both
    ray.shutdown()
    both.shutdown()


def engine_of(place, output, cluster, **more):
    from LoraModel.fleet.by_ray import ByRay

    session, base, work = session_of(place, output)
    session.ledger.add([Voice(name, str(place / "logs" / name), {}, True) for name in NAMES])
    return session, ByRay(session.ledger, work, base, address=cluster.address, **more)


@pytest.fixture(scope="module")
def local(place, tmp_path_factory):
    """What the local engine makes of the same voices."""
    output = tmp_path_factory.mktemp("local") / "out"
    session, base, work = session_of(place, output)
    session.ledger.add([Voice(name, str(place / "logs" / name), {}, True) for name in NAMES])
    session.local(base, work, workers=1).run(lambda: None)
    assert set(states(output).values()) == {"done"}
    return output


def at_work():
    """Processes of Ray's that have one of our tasks under way: it names them so."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"ray::do" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def same_adapters(output, local):
    for name in NAMES:
        first, second = output / "voices" / name, local / "voices" / name
        assert log(first) == log(second)
        one, two = (load_adapter(folder / f"{name}.safetensors").tensors for folder in (first, second))
        assert set(one) == set(two)
        assert all(torch.equal(one[key], two[key]) for key in two)


def test_a_worker_and_a_node_are_killed(place, local, cluster, tmp_path):
    """Every voice ends, none twice, with the adapters that the local engine makes. The nodes do not see the recordings:
    they are sent."""
    size = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster.remove_node(cluster.second)  # Ray connects to any node that is there, and ends if that one is killed
    session, engine = engine_of(place, tmp_path / "out", cluster, shared=False)
    killed, nodes = [], []

    def watch():
        if not nodes:
            nodes.append(cluster.add_node(**size))
        steps = sum(entry.step for entry in session.ledger.entries())
        if not killed and steps >= 2:
            for pid in at_work()[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append("worker")
        elif len(killed) == 1 and steps >= 6:
            cluster.remove_node(nodes[0], allow_graceful=False)
            killed.append("node")
            cluster.add_node(**size)

    begun = time.monotonic()
    engine.run(watch)
    assert killed == ["worker", "node"] and time.monotonic() - begun < 240
    assert states(tmp_path / "out") == dict.fromkeys(NAMES, "done") and done_once(tmp_path / "out")
    same_adapters(tmp_path / "out", local)


def test_recordings_are_prepared_there(place, cluster, tmp_path):
    """Voices of plain recordings, a folder and one file: prepared by a task, seen or sent."""
    for shared in (True, False):
        output = tmp_path / f"out{shared}"
        session, engine = engine_of(place, output, cluster, shared=shared)
        for name in NAMES:
            session.ledger.remove(name)
        folder = make_recordings(tmp_path / f"raw{shared}", count=2)
        one = make_one_recording(tmp_path / f"one{shared}.wav")
        session.ledger.add([Voice("raw", str(folder), {"epochs": 1}), Voice("one", str(one), {"epochs": 1})])
        engine.run(lambda: None)
        assert states(output) == {"raw": "done", "one": "done"} and done_once(output)
        assert engine.shared == shared, "each machine here sees what it is told of"


def test_a_cluster_that_cannot_be_reached(place, tmp_path):
    pytest.importorskip("ray.cluster_utils")
    from LoraModel.fleet.by_ray import ByRay

    session, base, work = session_of(place, tmp_path / "out")
    with pytest.raises(UserError, match="cannot be reached"):
        ByRay(session.ledger, work, base, address="127.0.0.1:1")
