"""Processes that are killed, kill -9, in the middle of what they do."""

import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FORKER = """
import os, signal, sys, time
import torch
import LoraModel.lora
saver, path, delays = sys.argv[1], sys.argv[2], [float(d) for d in sys.argv[3].split(",")]
ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT  # a saver that fails is not waited for
def mark():
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
for number, delay in enumerate(delays):
    last, saves, deadline = mark(), 0, time.monotonic() + 60
    child = os.fork()
    if child == 0:
        sys.argv = ["saver", path]
        torch.set_num_threads(1)
        exec(saver)
    # on a busy machine the child may not have run at all by then
    while saves < number % 6 and time.monotonic() < deadline and not os.waitid(os.P_PID, child, ENDED):
        saves, last = saves + (mark() != last), mark()
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("\\nkilled", flush=True)  # a line of its own also where the saver was killed amid a line
    sys.stdin.readline()
"""


def kill(process, pause=0.0, until=None, patience=60):
    """Kill `process` `pause` seconds after `until()` is true for the first time (or after `patience` seconds): whether
    it was still at work. Its pipes are read to their ends and closed.

    until: asked again and again; None for at once.
    """
    end = time.monotonic() + patience
    while until is not None and process.poll() is None and not until() and time.monotonic() < end:
        time.sleep(0.002)
    time.sleep(pause)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def savers_killed(saver, path, delays):
    """Run the Python text `saver`, which saves `sys.argv[1]` again and again and never ends, once for each of `delays`,
    and kill it so many seconds after it has saved 0 to 5 times. Yields after each kill.

    One process imports torch, which takes seconds, and forks the others.
    """
    with subprocess.Popen([sys.executable, "-c", FORKER, saver, str(path), ",".join(map(str, delays))], cwd=str(ROOT),
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True) as forker:
        kills = 0
        for line in forker.stdout:
            if line.strip() == "killed":
                kills += 1
                yield
                forker.stdin.write("go on\n")
                forker.stdin.flush()
    assert forker.returncode == 0 and kills == len(delays)
