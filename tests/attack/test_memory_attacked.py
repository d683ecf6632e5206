"""Too little memory (RLIMIT_AS) at every point of a switch and of the commands.

A process of its own sets the limit so much above what it has, tries, and takes the limit away again.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from LoraModel.training import train_lora

pytestmark = [pytest.mark.attack,
              pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="measures memory as Linux tells it")]
ROOT = Path(__file__).resolve().parents[2]

LITTLE = """
import contextlib, io, json, resource, sys
from pathlib import Path
import torch
from voice_data import BASE, SOURCE, make_adapter, state
from LoraModel.host import Host
from LoraModel.inference import VoiceLoader

torch.set_num_threads(1)
library, folder = Host("library"), Path(sys.argv[1])
library.module("models")
most = resource.getrlimit(resource.RLIMIT_AS)[1]

@contextlib.contextmanager
def little(more):
    now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
"""

SWITCH = LITTLE + """
from LoraModel.faults import out_of_memory
from LoraModel.lora import LoRAConfig

files = [make_adapter(folder / f"{number}.safetensors", library, number, config=LoRAConfig.from_preset(preset))
         for number, preset in ((1, "fast"), (2, "balanced"))]  # the second has layers that the first leaves alone
for how in ("from the base", "from a voice", "from a voice that was exchanged"):
    voice = VoiceLoader(BASE, library)
    plain = state(voice)
    if how == "from a voice":
        voice.set_adapters([(files[0], 1.0)])
    elif how != "from the base":
        voice.exchange(voice.prepare([(files[0], 1.0)]))
    before, applied, fault = state(voice), voice.applied, True
    for number in range(400):  # each try keeps the snapshots that it has taken, so that the next one ends further on
        with little(number * int(sys.argv[2])):
            try:
                voice.set_adapters([(files[1], 1.0)])
                fault = None
            except BaseException as error:
                fault = error
        after = state(voice)
        if fault is None:
            said = "done" if [one.adapter.name for one in voice.applied] == ["2"] else "another"
        elif not out_of_memory(fault):
            said = repr(fault)[:300]
        elif voice.applied == applied and all(torch.equal(before[name], after[name]) for name in before):
            said = "stayed"
        else:
            gone = not voice.applied and all(torch.equal(plain[name], after[name]) for name in plain)
            said = "the base" if gone else "neither"
        print(json.dumps([how, said]), flush=True)
        if said != "stayed":
            break
"""

COMMANDS = LITTLE + """
import numpy, soundfile, training_data
from LoraModel import commands
from LoraModel.inference import infer_lora
from LoraModel.scripts import convert_model, merge_lora, prepare_data
from LoraModel.training import train_lora

few = training_data.make_experiment(folder / "few", clips=3, seconds=0.9)
speech, rate = soundfile.read(str(SOURCE))
soundfile.write(str(folder / "long.flac"), numpy.tile(speech, 60), rate)
adapter = make_adapter(folder / "1.safetensors", library, 1)
wanted = ["--base_model", BASE, "--lora_weights", adapter]
tried = {
    "infer": (infer_lora.main, lambda out: [*wanted, "--input", SOURCE, "--output", out / "o.wav"]),
    "merge": (merge_lora.main, lambda out: [*wanted, "--output", out / "o.pth"]),
    "small": (convert_model.main, lambda out: ["small", BASE, "--output", out / "o.pth"]),
    "train": (train_lora.main, lambda out: training_data.argv(
        training_data.settings(few, out / "run", epochs=1), config=folder / "c.json")),
    "prepare": (prepare_data.main, lambda out: [
        "--input_dir", SOURCE if out.name == "prepare" else folder / "long.flac", "--output_dir", out / "voice"]),
}

def run(name, out):
    main, options = tried[name]
    said, out = io.StringIO(), folder / out
    out.mkdir(exist_ok=True)
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = commands.run(main, [str(option) for option in options(out)])
        except BaseException as error:
            code = repr(error)[:300]
    lines = [line for line in said.getvalue().splitlines() if line.startswith("error")]
    left = [path.name for path in out.rglob("*") if path.name.endswith((".tmp", ".part"))]
    return [name, code, lines, "Traceback" in said.getvalue(), left]

for name in tried:
    first = run(name, name)  # all is imported, and what is made once is made
    assert first[1] in (0, train_lora.WORSE), first
    steps = [more for more in json.loads(sys.argv[2]) if more < 10 or name != "prepare"]  # it would take its time
    for number, more in enumerate(steps):
        with little(more * 2**20):
            found = run(name, f"{name}{number}")
        print(json.dumps(found), flush=True)
        if found[1] in (0, train_lora.WORSE):
            break
    if name == "train":  # what a refused run left behind is no hindrance
        again = run(name, "train0")
        assert again[1] in (0, train_lora.WORSE), again
"""


def lines(program, folder, *arguments):
    folders = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "helpers")))
    done = subprocess.run([sys.executable, "-c", program, str(folder), *arguments], cwd=str(ROOT), capture_output=True,
                          text=True, encoding="utf-8", check=False, timeout=600,
                          env={**os.environ, "PYTHONPATH": folders, "RVC_LORA_LANG": "en", "OMP_NUM_THREADS": "1",
                               "MALLOC_MMAP_THRESHOLD_": "65536"})  # what is freed is the system's again at once
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]


def test_a_switch_without_memory_is_all_or_nothing(tmp_path, attack_rounds):
    """What is applied is what the weights are, wherever the memory ends: the voice before, or the plain base."""
    for step in (2**19, 2**16)[:attack_rounds]:
        found = lines(SWITCH, tmp_path, str(step))
        for how in ("from the base", "from a voice", "from a voice that was exchanged"):
            said = [same for way, same in found if way == how]
            assert said[-1] in ("done", "the base") and set(said[:-1]) <= {"stayed"}, (how, said)
            # What is exchanged with a voice that is kept may need no memory at all: then it cannot end.
            assert said[0] != "done" or how == "from a voice that was exchanged", how


def test_a_command_without_memory_says_so_in_one_line(tmp_path, attack_rounds):
    steps = [0, 8, 60] if attack_rounds == 1 else [number * 40 // attack_rounds for number in range(10 * attack_rounds)]
    refused = set()
    for name, code, said, traceback, left in lines(COMMANDS, tmp_path, json.dumps(steps)):
        assert not traceback and not left, (name, said)
        if code not in (0, train_lora.WORSE):
            assert code == 2 and len(said) == 1 and "not enough memory" in said[0], (name, code, said)
            assert "close other programs" in said[0]
            refused.add(name)
    # A merge may find all it needs in what the conversion before it gave back.
    assert refused >= {"infer", "train", "prepare"}


@pytest.mark.parametrize("script", ["training/train_lora.py", "scripts/prepare_data.py"])
def test_no_memory_while_pytorch_is_imported_is_one_line(script, tmp_path):
    (tmp_path / "torch.py").write_text("raise MemoryError")
    done = subprocess.run([sys.executable, str(ROOT / "LoraModel" / script), "--help"], text=True, capture_output=True,
                          encoding="utf-8", check=False, timeout=600,
                          env={**os.environ, "RVC_LORA_LANG": "en", "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr[-2000:]
    assert "not enough memory: close other programs" in done.stderr
