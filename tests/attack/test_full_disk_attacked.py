"""A disk that is really full, at many sizes: a small tmpfs, which takes root to mount."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import training_data
from voice_data import BASE, SOURCE

from LoraModel import commands
from LoraModel.inference import infer_lora
from LoraModel.scripts import convert_model, merge_lora, prepare_data
from LoraModel.training import train_lora

pytestmark = pytest.mark.attack
MEGABYTES = 96


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A drive of `MEGABYTES`. Skips, saying so, where none can be mounted."""
    place = tmp_path_factory.mktemp("disk")
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("mounting a small drive takes root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(place)],
                             capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no drive can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def leave(disk, kilobytes):
    """Nothing on the drive but a file that leaves so much free."""
    for path in disk.iterdir():
        shutil.rmtree(str(path)) if path.is_dir() else path.unlink()
    with open(str(disk / "filler"), "wb") as filler:
        filler.flush()
        os.posix_fallocate(filler.fileno(), 0, max(1, (MEGABYTES * 1024 - kilobytes) * 1024))


WRITERS = {
    "infer .wav": ("o.wav", lambda path, adapter: (infer_lora.main, ["--base_model", BASE, "--lora_weights", adapter,
                                                                     "--input", SOURCE, "--output", path])),
    "infer .flac": ("o.flac", lambda path, adapter: (infer_lora.main, ["--base_model", BASE, "--lora_weights", adapter,
                                                                       "--input", SOURCE, "--output", path])),
    "merge": ("o.pth", lambda path, adapter: (merge_lora.main, ["--base_model", BASE, "--lora_weights", adapter,
                                                                "--output", path, "--force"])),
    "small": ("o.pth", lambda path, _: (convert_model.main, ["small", BASE, "--output", path, "--force"])),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_result_that_does_not_fit_is_one_line_and_the_old_file_stays(disk, adapters, capsys, attack_rounds, name):
    file, command = WRITERS[name]
    main, options = command(disk / file, adapters[0])
    refused = 0
    most = 1 if name.startswith("infer") else 4  # a conversion takes its time
    for kilobytes in [0, 12, 40, 400][:most + 1] + [100 * number for number in range(1, 30 * (attack_rounds - 1), 7)]:
        leave(disk, kilobytes)
        try:
            (disk / file).write_bytes(b"old")
        except OSError:
            (disk / file).touch()
        old = (disk / file).read_bytes()
        code = commands.run(main, [str(option) for option in options])
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        if code:
            refused += 1
            assert code == 2 and len(said) == 1 and "disk is full" in said[0] and "Traceback" not in said[0], said
            assert (disk / file).read_bytes() == old
        assert sorted(path.name for path in disk.iterdir()) == sorted(["filler", file]), kilobytes
    assert refused >= 2
    leave(disk, MEGABYTES * 1024 - 100)
    assert commands.run(main, [str(option) for option in options]) == 0 and (disk / file).stat().st_size > 10_000


def test_a_preparation_that_does_not_fit_is_one_line_and_goes_on_with_more_room(disk, tmp_path, capsys):
    raw, out = tmp_path / "raw", disk / "voice"
    raw.mkdir()
    shutil.copy(str(SOURCE), str(raw))
    for kilobytes in (0, 40, 150, 300):
        leave(disk, kilobytes)
        assert commands.run(prepare_data.main, ["--input_dir", str(raw), "--output_dir", str(out)]) == 2
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert len(said) == 1 and "disk is full" in said[0], said
        assert not [path for path in disk.rglob("*") if path.name.endswith((".tmp", ".part"))]
    (disk / "filler").unlink()
    assert commands.run(prepare_data.main, ["--input_dir", str(raw), "--output_dir", str(out)]) == 0


def test_a_run_that_does_not_fit_does_not_begin(disk, tmp_path, capsys):
    voice = training_data.make_experiment(tmp_path / "voice", clips=3, seconds=0.9)
    values = training_data.settings(voice, disk / "run", epochs=1)
    leave(disk, 1000)
    assert commands.run(train_lora.main, training_data.argv(values, config=tmp_path / "c.json")) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(said) == 1 and "MB free" in said[0]
    assert not [path for path in (disk / "run").rglob("*") if path.is_file()] if (disk / "run").exists() else True
    assert Path(voice / "config.json").is_file()
