"""Hostile and damaged model files: nothing in them runs, each is answered in one line, soon and in little memory."""

import io
import os
import pickle
import random
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch

from LoraModel.messages import UserError
from LoraModel.models import load_base, model_kind, read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "LoraModel" / "demo" / "base" / "f0G16k.pth"
pytestmark = pytest.mark.attack


def zipped(path, description, **parts):
    """A file of PyTorch's form around any pickle."""
    with zipfile.ZipFile(str(path), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", description)
        for name, data in parts.items():
            archive.writestr(f"archive/data/{name}", data)
    return path


def tuples(depth):
    """Tuples of twice the tuple before: hashing or comparing one takes 2**depth steps."""
    return b"\x80\x02})" + b"2\x86" * depth + b"K\x01s."


def stretched(shape, stride, stored):
    """A tensor that claims `shape` over a storage of `stored` floats."""
    def numbers(values):
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", value) for value in values) + b"t"

    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuM" + struct.pack(
        "<H", stored) + b"tQ"
    return (b"\x80\x02}X\x05\x00\x00\x00model}X\x0c\x00\x00\x00emb_g.weightctorch._utils\n_rebuild_tensor_v2\n("
            + storage + b"K\x00"
            + numbers(shape) + numbers(stride) + b"\x89Nt" + b"Rss.")


HOSTILE = {
    "nested lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "lists without end": b"\x80\x02" + b"]" * 1_000_000,
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "twice the list before": b"\x80\x02]"
    + b"".join(b"q%c](h%ch%ce" % (n, n, n) for n in range(60) if n not in (10, 13)) + b".",
    "a key that is never hashed": tuples(60),
    "a number of gigabytes": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\1" * 100 + b".",
    "a number of many digits": b"I" + b"9" * 3_000_000 + b"\n.",
    "a text longer than the file": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x" * 100 + b".",
    "a memo far away": b"\x80\x02]r\xff\xff\xff\x7f.",
    "no stack": b"\x80\x02a.", "marks": b"\x80\x02" + b"(" * 40_000 + b"t" * 40_000 + b".",
    "stride 0 of a terabyte": stretched((2**20, 2**18), (0, 0), 4),
    "a tensor beyond its storage": stretched((3, 2), (2, 1), 4),
    "a description of gigabytes": b"\x80\x02" + bytes(40 * 2**20),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_end_soon(tmp_path, name):
    path = zipped(tmp_path / "x.pth", HOSTILE[name], **{"0": bytes(16)})
    started = time.monotonic()
    with pytest.raises(UserError, match="damaged") as caught:
        read_checkpoint(path)
    assert model_kind(path).kind == "other"
    assert time.monotonic() - started < 20 and len(str(caught.value)) < 1000


CHILD = """
import resource, sys
from LoraModel.host import Host
from LoraModel.messages import UserError
from LoraModel.models import load_base
library = Host("library")
library.module("models")
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 400 * 2**20,) * 2)
for path in sys.argv[1:]:
    try:
        load_base(path, library)
        print("loaded")
    except UserError as error:
        print(len(str(error)), str(error))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="measures memory as Linux tells it")
def test_configurations_that_ask_for_gigabytes(tmp_path):
    """A network that the tensors do not bear out is never built: all of it within 400 MB."""
    from model_files import demo_config, demo_weights, save, voice, without_posterior

    weights, files = without_posterior(demo_weights()), []
    for at, value in ((2, 20_000), (3, 20_000), (4, 10**9), (6, 1_000_000), (13, 100_000), (0, 10**9),
                      (14, [20_000] * 4), (15, 10**9),
                      (16, 10**8), (12, [10**6] * 3), (8, "x" * 100_000), (9, [["y" * 10_000]]),
                      (10, list(range(1, 99_999)))):
        config = demo_config()
        config[at] = value
        files.append(save(tmp_path / f"{len(files)}.pth", voice(weights, config=config)))
    result = subprocess.run([sys.executable, "-c", CHILD, *map(str, files)], cwd=str(ROOT), capture_output=True,
                            text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=120, check=False)
    lines = result.stdout.splitlines()
    assert result.returncode == 0 and len(lines) == len(files), result.stderr[-2000:]
    for at, line in enumerate(lines):
        if at == 7:  # the number of speakers is what the table has, whatever the configuration says
            assert line == "loaded"
        else:
            assert "no network can be built from its configuration" in line and int(line.split()[0]) < 600


def test_nothing_of_a_pickle_is_called(tmp_path):
    marker = tmp_path / "ran"

    class Runs:
        def __init__(self, function, *given):
            self.function, self.given = function, given

        def __reduce__(self):
            return self.function, self.given

    command = f"open({str(marker)!r}, 'w').close()"
    for item in (Runs(os.system, f"touch '{marker}'"), Runs(exec, command), Runs(eval, command), Runs(torch.load, "x"),
                 Runs(torch.hub.load, "a/b", "c"), Runs(getattr, "a", "b"), Runs(__import__, "os"),
                 Runs(io.open, str(marker), "w")):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            path = zipped(tmp_path / "x.pth", pickle.dumps({"model": {"a": item}}, protocol))
            with pytest.raises(UserError, match="is unsafe: it holds an object of type"):
                read_checkpoint(path)
    assert not marker.exists()


def test_mutated_files(tmp_path, attack_rounds, library):
    """Bytes changed, cut and moved anywhere in a real file: refused in one line, or the very tensors that were
    written."""
    chance, path = random.Random(7), tmp_path / "x.pth"
    small = {"model": {f"dec.{n}.weight": torch.randn(4, 3) for n in range(6)}, "info": "é", "iteration": 3}
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        torch.save(small, str(path), **options)
        whole = path.read_bytes()
        for _ in range(150 * attack_rounds):
            data = bytearray(whole)
            for _ in range(chance.choice((1, 1, 2, 8))):
                at = chance.randrange(len(data))
                how = chance.randrange(4)
                if how == 0:
                    data[at] ^= 1 << chance.randrange(8)
                elif how == 1:
                    data[at] = chance.randrange(256)
                elif how == 2:
                    del data[at:at + chance.randrange(1, 64)]
                else:
                    data[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 9)))
                if not data:
                    data = bytearray(b"\0")
            path.write_bytes(bytes(data))
            try:
                found = read_checkpoint(path)
            except UserError as error:
                assert "\n" not in str(error) and len(str(error)) < 1000
            else:
                assert isinstance(found, dict)
            assert model_kind(path).kind == "other"


def test_flipped_bits_of_a_zip_are_found(tmp_path, library):
    data, path, chance = bytearray(BASE.read_bytes()), tmp_path / "x.pth", random.Random(3)
    at = data.find(b"data/5") + 4000
    data[at] ^= 1 << chance.randrange(8)
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match="damaged"):
        load_base(path, library, config_json=BASE.parent / "config.json")
