"""A page in a process of its own, and the end of the runs that it started."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from LoraModel.webui.folders import Folders
from LoraModel.webui.runs.runs import Runs

ROOT = Path(__file__).resolve().parents[2]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def served(command, folder, log, **environment):
    """The page of `command --port N`: its address. Ended afterwards, with the run that it may have started."""
    port = free_port()
    values = {**os.environ, "OMP_NUM_THREADS": "1", "GRADIO_ANALYTICS_ENABLED": "False", "PYTHONPATH": str(ROOT),
              "LC_ALL": "C.UTF-8", **environment}
    with open(str(log), "wb") as said:
        process = subprocess.Popen([sys.executable, *command, "--port", str(port), "--noautoopen"], cwd=str(folder),
                                   env=values, stdout=said, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(3000):  # five minutes: a real WebUI on a busy machine
            assert process.poll() is None, log.read_text()[-3000:]
            with contextlib.suppress(OSError):
                urllib.request.urlopen(address, timeout=5).close()
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"the page never answered: {log.read_text()[-3000:]}")
        yield address
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()


def end_runs(root, is_checkout):
    runs = Runs(Folders(root, is_checkout), "en")
    for name in runs.going_on():
        runs.stop(name, 300)
