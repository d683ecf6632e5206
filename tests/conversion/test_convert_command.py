"""The command that converts full voices: one of them, a folder of them, and what it says when something is wrong."""

import json
import os
import subprocess
import sys
import time

import pytest
from adapter_data import CONFIG, METADATA, tiny
from full_voices import command, lab
from model_files import demo_weights, save
from training_data import BASE, environment, one_thread

from LoraModel.lora import load_adapter, save_adapter
from LoraModel.lora.adapter_file import read_preview
from LoraModel.messages import UserError
from LoraModel.models.catalog import Catalog
from LoraModel.scripts import blend_lora, convert_model

ROOT = BASE.parents[3]
threads = pytest.fixture(scope="module", autouse=True)(one_thread)
lab = pytest.fixture(scope="module")(lab)


def test_one_voice_by_the_command(lab, tmp_path, capsys):
    output, report, figures = tmp_path / "a.safetensors", tmp_path / "r.html", tmp_path / "f.json"
    line = (lab[0], "--base_model", BASE, "--output", output, "--content", lab[1], "--steps", 1, "--consent",
            "synthetic", "--tags", "test, voice")
    assert command(*line, "--report", report, "--json", figures) == 0
    said = capsys.readouterr().out
    assert "certain" in said and "of the way from the base to the full voice" in said and "KB instead of" in said
    found = json.loads(figures.read_text())
    assert found["steps"] == 1 and 0 < found["kept"] <= 1 and found["base_sure"]
    sound = read_preview(output)
    assert found["bytes_preview"] == len(sound) > 5000 and "--no_preview leaves them out" in said
    assert found["bytes_after"] < output.stat().st_size < found["bytes_after"] + 4 / 3 * len(sound) + 100
    metadata = load_adapter(output).metadata
    assert metadata["consent"] == "synthetic" and metadata["tags"] == "test, voice"
    page = report.read_text(encoding="utf-8")
    assert page.count("<audio") == 3 and "full voice" in page and "完整音色" in page
    with pytest.raises(UserError, match="exists"):
        command(lab[0], "--base_model", BASE, "--output", output)


def test_a_folder_goes_on_after_a_failure_and_skips_what_is_done(lab, tmp_path, capsys):
    voices = tmp_path / "voices"
    (voices / "more").mkdir(parents=True)
    os.link(str(lab[0]), str(voices / "a.pth"))
    os.link(str(lab[0]), str(voices / "more" / "b.pth"))
    (voices / "broken.pth").write_bytes(lab[0].read_bytes()[:5000])
    save(voices / "base.pth", {"model": demo_weights()})
    output, figures = tmp_path / "out", tmp_path / "f.json"
    line = (voices, "--base_model", BASE, "--output", output, "--fast", "--no_preview", "--json", figures)
    assert command(*line) == 1
    out, err = capsys.readouterr()
    assert "broken.pth" in err and "1 of 3 voices were not converted" in err and "a.pth" in out
    assert "100%|" in err and "3/3 b" in err  # the bar, with the voice under way; the time left stands behind it
    assert [outcome["state"] for outcome in json.loads(figures.read_text())] == ["made", "failed", "made"]
    assert sorted(file.name for file in output.rglob("*.safetensors")) == ["a.safetensors", "b.safetensors"]
    assert read_preview(output / "a.safetensors") == b""
    stamp = (output / "a.safetensors").stat().st_mtime_ns
    os.unlink(str(voices / "broken.pth"))
    assert command(*line) == 0
    assert (output / "a.safetensors").stat().st_mtime_ns == stamp and "already done" in capsys.readouterr().out
    assert command(*line, "--force") == 0 and (output / "a.safetensors").stat().st_mtime_ns != stamp


def process(*arguments, **more):
    return subprocess.Popen([sys.executable, "-m", "LoraModel.scripts.convert_model", *map(str, arguments)],
                            env=environment(), cwd=str(ROOT), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **more)


def test_a_killed_run_leaves_whole_adapters_alone(lab, tmp_path):
    voices, output = tmp_path / "voices", tmp_path / "out"
    voices.mkdir()
    for number in range(12):
        os.link(str(lab[0]), str(voices / f"{number:02d}.pth"))
    run = process("voice", voices, "--base_model", BASE, "--output", output, "--fast", "--no_preview")
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until and not (output.is_dir() and list(output.glob("*.safetensors"))):
            time.sleep(0.05)
    finally:
        run.kill()
        run.communicate()
    done = sorted(output.glob("*.safetensors"))
    assert 1 <= len(done) < 12
    for file in done:
        load_adapter(file)


@pytest.mark.skipif(os.name != "posix", reason="a limit of file size is POSIX's")
def test_no_space_for_the_output_is_one_line(lab, tmp_path):
    output = tmp_path / "a.safetensors"
    line = ("import resource, sys; from LoraModel.commands import run; from LoraModel.scripts import convert_model\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000)); sys.exit(run(convert_model.main))")
    done = subprocess.run([sys.executable, "-c", line, "voice", str(lab[0]), "--base_model", str(BASE), "--output",
                           str(output), "--fast", "--no_preview"], env=environment(), cwd=str(ROOT),
                          capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and "the disk is full" in last and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_tampered_voice_is_refused_by_name(lab, tmp_path):
    data = bytearray(lab[0].read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "bad.pth").write_bytes(data)
    with pytest.raises(UserError, match="bad.pth"):
        command(tmp_path / "bad.pth", "--base_model", BASE, "--output", tmp_path / "a.safetensors", "--fast")
    assert [file.name for file in tmp_path.iterdir()] == ["bad.pth"]


@pytest.mark.parametrize("bomb", [b"[" * 100_000 + b"]" * 100_000,
                                  b'{"__metadata__": {"format": "rvc-lora", "notes": "' + b"x" * 3_000_000 + b'"}}'])
def test_a_metadata_bomb_is_refused_at_once(tmp_path, bomb):
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(bomb).to_bytes(8, "little") + bomb)
    for call in (lambda: convert_model.main(["info", str(path)]),
                 lambda: blend_lora.main([str(path), "--output", str(tmp_path / "b.safetensors")])):
        started = time.perf_counter()
        with pytest.raises(UserError, match="a.safetensors"):
            call()
        assert time.perf_counter() - started < 2


def adapter(path, **more):
    _, tensors = tiny(0)
    return save_adapter(path, tensors, CONFIG, {**METADATA, **more})


@pytest.mark.parametrize("strength", ["much", "nan", "2", "1e999", "-1"])
def test_a_strength_that_is_none_is_refused(tmp_path, strength):
    one = adapter(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="strength|number|between"):
        blend_lora.main([f"{one}:{strength}", "--output", str(tmp_path / "b.safetensors")])
    assert not (tmp_path / "b.safetensors").exists()


def test_a_thousand_adapters_are_listed_in_half_a_second(tmp_path):
    lora = tmp_path / "assets" / "lora"
    lora.mkdir(parents=True)
    first = adapter(lora / "0.safetensors", notes="x" * 10_000, preview="T2dnUw" + "A" * 50_000 + "==")
    for number in range(1, 1000):
        (lora / f"{number}.safetensors").write_bytes(first.read_bytes())
    (lora / "none.safetensors").write_bytes(b"nothing")
    catalog = Catalog(tmp_path)
    started = time.perf_counter()
    found = catalog.adapters()
    assert time.perf_counter() - started < 0.5 and len(found) == 1001  # what is none says so when it is chosen
