"""Runs of the page on the demo's base: their folder, their settings, and waiting for them."""

import shutil
import time

from voice_data import BASE as BASE_FILE

from LoraModel.scripts import prepare_data
from LoraModel.webui.runs.run_settings import RunSettings

BASE = "assets/pretrained_v2/f0G16k.pth"
BUSY = 300
"""Seconds that a wait for a run may last on a machine that is busy with other things."""


def make_root(root, clips=5):
    """A folder with the demo's base and the experiment "voice", prepared from some of the demo's recordings."""
    (root / "assets/pretrained_v2").mkdir(parents=True)
    for name in (BASE_FILE.name, "config.json"):
        shutil.copy(str(BASE_FILE.parent / name), str(root / "assets/pretrained_v2" / name))
    (root / "recordings").mkdir()
    for number in range(1, clips + 1):
        shutil.copy(str(BASE_FILE.parents[1] / f"recordings/target/{number:02d}.flac"), str(root / "recordings"))
    prepare_data.main(["--input_dir", str(root / "recordings"), "--output_dir", str(root / "logs/voice")])
    return root


def settings(**changed):
    """Of a small run on the CPU."""
    return RunSettings(**{"name": "voice", "sample_rate": "16k", "base_g": BASE, "preset": "fast", "epochs": 1,
                          "batch_size": 2, "device": "cpu", **changed})


def until(runs, wanted, seconds=BUSY):
    """The first status for which `wanted(status)` is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = runs.status("voice")
        if wanted(status):
            return status
        time.sleep(0.1)
    raise AssertionError(f"{seconds} s passed: {status}")


def ended(preparer):
    """The preparation that a `Preparer` was given, once it is over."""
    preparer.current.thread.join(BUSY)
    assert not preparer.current.active
    return preparer.current
