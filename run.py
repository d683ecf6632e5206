"""python run.py demo | test | check | app: makes `.venv` beside this file, installs what is needed, then runs the
command.

Standard library only (and parts of LoraModel/ that are the same); Windows, Linux, macOS.

What makes an interrupted run mend itself:
- `.venv` carries a marker from its first moment, and a stamp that is written last and taken away before pip changes
  anything. No stamp means that something was interrupted: pip may hold a half-written package for installed, so all is
  made again.
- One run at a time works on `.venv`: a lock file, which the operating system lets go however the run ends. pip holds
  it as well, so a pip that outlives its killed run is waited for.
- `.venv` is renamed before it is deleted, so that a killed deletion leaves nothing under its name.
"""

import contextlib
import difflib
import hashlib
import importlib.util
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Dict, Iterator, List, NoReturn, Optional, Tuple

from LoraModel.folder_lock import try_lock
from LoraModel.install.progress import Progress
from LoraModel.install.pythons import ALONE, BY_OPTION, NEWEST, OLDEST, USUAL, Environment, needs_browser, wanted  # noqa: F401
from LoraModel.messages import Text, UserError, cli, say, tr
from LoraModel.names import shown

ROOT = Path(__file__).resolve().parent
TESTED = (3, 11)  # the Python that constraints.txt is for
INPUTS = ("requirements.txt", "requirements-dev.txt", "constraints.txt")
MARKER, STAMP, LOG = "made-by-run.py", "installed.json", "install.log"
CHECK = ("import torch, librosa, faiss, parselmouth, soundfile, safetensors.torch, tensorboard, gradio, rvc, "
         "resemblyzer, speechmos.dnsmos, pytest, xdist")
OFFLINE = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
}
COMMANDS = ("demo", "test", "check", "app")
USAGE = Text("usage: python run.py demo | test | check | app [options passed on]\n"
             "  demo   train a voice on the bundled recordings and convert with it; the results are in demo_output/\n"
             "  test   the whole test suite (options go to pytest: python run.py test -k lora)\n"
             "         --lowest  all but the browser tests with Python 3.8, PyTorch 1.13.1, NumPy 1.23, librosa 0.9.1\n"
             "                   (some GB to download)\n"
             "         --newest  the same with the newest Python at hand and the newest packages\n"
             "  check  ruff and mypy, as continuous integration runs them before the tests\n"
             "  app    the web page\n"
             "exit codes: 0 done, 1 a test failed or a fault of this program, 2 something to put right, 130 "
             "stopped by Ctrl-C")


# ---------------------------------------------------------------- what is there

def python_of(venv: Path) -> Path:
    """The interpreter inside `venv`."""
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def version() -> str:
    """The running Python's minor version, such as "3.11"."""
    return ".".join(map(str, sys.version_info[:2]))


def key(root: Path, kind: Environment = USUAL) -> str:
    """SHA-256 over everything that decides what gets installed."""
    digest = hashlib.sha256(json.dumps([version(), kind.packages, kind.alone]).encode())
    for name in INPUTS:
        content = (root / name).read_bytes()
        digest.update(b"%s %d\n" % (name.encode(), len(content)))
        digest.update(content)
    return digest.hexdigest()


def installed(venv: Path) -> List[str]:
    """Names of the completely installed packages: pip writes RECORD last."""
    records = [*venv.glob("lib/python*/site-packages/*.dist-info/RECORD"),
               *venv.glob("Lib/site-packages/*.dist-info/RECORD")]
    return sorted({record.parent.name.split("-")[0].lower() for record in records})


def starts(venv: Path) -> bool:
    """Whether the interpreter inside `venv` runs and is of the running version."""
    command = [str(python_of(venv)), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(), timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.decode().strip() == version()


def state(root: Path, kind: Environment = USUAL) -> str:
    """"ready"; "missing"; "foreign" (made by someone else); "broken" (interrupted or damaged); "stale" (whole, but the
    requirements have changed since)."""
    venv = root / kind.folder
    if not venv.exists() or (venv.is_dir() and not any(venv.iterdir())):
        return "missing"
    if not (venv / MARKER).exists():
        return "foreign"
    try:
        stamp = json.loads((venv / STAMP).read_text(encoding="utf-8"))
        made_from, packages = stamp["key"], set(stamp["packages"])
    except (OSError, ValueError, KeyError, TypeError):
        return "broken"
    if not packages.issubset(installed(venv)) or not starts(venv):
        return "broken"
    return "ready" if made_from == key(root, kind) else "stale"


# ---------------------------------------------------------------- making it

def ensure(root: Path, kind: Environment = USUAL) -> Path:
    """Bring `.venv` in `root` to what the requirements say; return its interpreter."""
    found = state(root, kind)
    if found != "ready":
        with locked(root, kind) as lock:
            found = state(root, kind)  # another run may just have finished
            if found == "foreign":
                raise UserError("{root} was not made by run.py: move or delete it, then run this again",
                                root=root / kind.folder)
            if found in ("missing", "broken"):
                if found == "broken":
                    say("an earlier installation was interrupted or damaged: making {folder} again", folder=kind.folder)
                make(root, lock, kind)
            if found != "ready":
                install(root, lock, kind)
    return python_of(root / kind.folder)


def make(root: Path, lock: int, kind: Environment) -> None:
    """A new, empty virtual environment, in place of whatever `.venv` of ours is there."""
    venv = root / kind.folder
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        raise UserError("this Python has no venv: install it (Debian, Ubuntu: apt install python{version}-venv), then "
                        "run this again", version=version())
    try:
        if venv.exists():
            venv.rename(root / f"{kind.folder}-old-{time.time_ns()}")
    except OSError as error:
        raise UserError("cannot replace {venv} ({error}): end the programs that use it, then run this again", venv=venv,
                        error=error) from None
    for old in root.glob(f"{kind.folder}-old-*"):
        shutil.rmtree(str(old), ignore_errors=True)
    venv.mkdir(exist_ok=True)
    (venv / MARKER).touch()
    base = getattr(sys, "_base_executable", None) or sys.executable  # this very file may be run with .venv's own Python
    stream([base, "-m", "venv", str(venv)], root, lock, kind,
           Progress(tr("[1/4] making {folder}", folder=kind.folder)))


def install(root: Path, lock: int, kind: Environment) -> None:
    """pip's part, a check that the packages import, and the stamp."""
    venv = root / kind.folder
    with contextlib.suppress(FileNotFoundError):
        (venv / STAMP).unlink()
    pip = [str(python_of(venv)), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar",
           "off"]
    total = 0
    if kind.constrained and sys.version_info[:2] == TESTED:
        pip += ["-c", "constraints.txt"]
        total = sum("==" in line for line in (root / "constraints.txt").read_text(encoding="utf-8").splitlines())
    elif kind.constrained:
        say("constraints.txt is for Python 3.11 and this is {version}: installing requirements.txt without it; the "
            "versions that come are not the tested ones", version=version())
    stream(pip + [*kind.packages], root, lock, kind, Progress(tr("[2/4] installing packages"), total))
    stream(pip + ["--no-deps", "--ignore-requires-python", *kind.alone], root, lock, kind,
           Progress(tr("[3/4] installing RVC's library")))
    check = [str(python_of(venv)), "-c", CHECK]
    stream(check, root, lock, kind, Progress(tr("[4/4] checking that everything imports")))
    write_whole(venv / STAMP, json.dumps({"key": key(root, kind), "packages": installed(venv)}))


def write_whole(path: Path, text: str) -> None:
    """Write `text` under `path` so that a crash leaves either nothing or all of it."""
    part = path.with_name(path.name + ".part")
    with open(part, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


@contextlib.contextmanager
def locked(root: Path, kind: Environment = USUAL) -> Iterator[int]:
    """Hold `.venv.lock` in `root`; wait, saying so, while another run holds it. Yields its file descriptor."""
    with open(root / f"{kind.folder}.lock", "a+b") as file:
        waiting = False
        while not try_lock(file.fileno()):
            if not waiting:
                say("another run is installing into {folder}: waiting for it", folder=kind.folder)
            waiting = True
            time.sleep(0.5)
        yield file.fileno()  # closing the file lets the lock go


# ---------------------------------------------------------------- running a step, and showing it

def stream(command: List[str], root: Path, lock: int, kind: Environment, progress: Progress) -> None:
    """Run one step in `root`; its output goes to install.log in the environment and, in short, to `progress`.

    Raises:
        UserError: the step failed; the last lines of its output are in the message.
    """
    code, output = call(command, root, lock, progress)
    log = root / kind.folder / LOG
    with open(log, "a", encoding="utf-8") as file:
        file.write("\n".join(["$ " + " ".join(command), *output, ""]))
    progress.done(code)
    if code:
        tail = "\n".join(output[-15:])
        raise UserError("{command} ... failed with exit code {code}; correct what it reports, then run this again "
                        "(its whole output: {log}):\n{tail}",
                        command=" ".join(command[1:5]), code=code, log=log, tail=tail)


def call(command: List[str], root: Path, lock: int, progress: Progress) -> Tuple[int, List[str]]:
    """Run `command` in `root` and wait for it; return its exit code and its lines, both streams together."""
    inherited: Dict[str, object] = {} if os.name == "nt" else {"pass_fds": (lock,)}
    process = subprocess.Popen(command, cwd=str(root), env=environment(), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", **inherited)  # type: ignore[call-overload]
    lines: queue.Queue[Optional[str]] = queue.Queue()

    def read() -> None:
        for text in process.stdout:
            lines.put(text.rstrip("\n"))
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    output: List[str] = []
    try:
        while True:
            try:
                text = lines.get(timeout=1)
            except queue.Empty:
                progress.tick()
                continue
            if text is None:
                return process.wait(), output
            output.append(text)
            progress.line(text)
            progress.tick()
    except BaseException:
        process.kill()
        process.wait()
        raise


def environment() -> Dict[str, str]:
    """This process's environment for the children: nothing of another Python in it, and nothing that phones home."""
    dropped = ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_NO_DEPS")
    kept = {name: value for name, value in os.environ.items() if name.upper() not in dropped}
    return {**kept, **OFFLINE, "PYTHONUTF8": "1", "PYTHONNOUSERSITE": "1"}


# ---------------------------------------------------------------- the commands

_CHECK = """import subprocess, sys
for tool in (["ruff", "check", "."], ["mypy"]):
    if subprocess.call([sys.executable, "-m", *tool]):
        sys.exit(1)
"""


def arguments(command: str, extra: List[str], kind: Environment = USUAL) -> List[str]:
    """What the environment's interpreter is given for `command`."""
    if command == "demo":
        return ["-m", "LoraModel.demo.demo", *extra]
    if command == "check":
        return ["-c", _CHECK]
    if command == "test":
        # a worker for each core, as far as memory goes (tests/conftest.py); pyproject.toml says that the tests are in
        # tests/
        return ["-m", "pytest", "-n", "auto", "--dist", "loadfile", *(
            [] if kind is USUAL else [f"--ignore=tests/{name}" for name in needs_browser(ROOT / "tests")]), *extra]
    return [str(ROOT / "LoraModel" / "webui" / "app.py"), *extra]


def launch(command: List[str]) -> NoReturn:
    """Become `command`, in the repository's folder: its output, signals and exit code are this process's own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(str(ROOT))
    if os.name != "nt":
        os.execve(command[0], command, environment())
    process = subprocess.Popen(command, env=environment())
    while True:
        try:
            sys.exit(process.wait())
        except KeyboardInterrupt:
            continue  # the child has got the same Ctrl-C and ends in its own way


def run_with(kind: Environment, argv: List[str]) -> None:
    """Start run.py anew with the Python that `kind` needs; return if it is the running one.

    Raises:
        UserError: there is none on this machine.
    """
    asked, python = wanted(kind)
    if python is None:
        named = ".".join(map(str, asked or OLDEST))
        raise UserError("{argv} needs Python {named}, and none is at hand (PATH, pyenv, py): install it, then run "
                        "this again", argv=argv[1], named=named)
    if asked != sys.version_info[:2]:
        launch([python, str(ROOT / "run.py"), *argv])


def main(argv: Optional[List[str]] = None) -> int:
    """Read the command, bring the environment up, run the command."""
    for standard in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            standard.reconfigure(errors="replace")  # a console that cannot show Chinese, or a path
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] in (["-h"], ["--help"]):
        say(USAGE)
        return 0
    if not argv or argv[0] not in COMMANDS:
        unclear = UserError("say which command to run\n{usage}", usage=USAGE)
        near = difflib.get_close_matches(argv[0], COMMANDS, 1) if argv else []
        if near:
            unclear = UserError("there is no command {name}: did you mean {near}?\n{usage}", name=shown(argv[0], 40),
                                near=near[0], usage=USAGE)
        elif argv:
            unclear = UserError("there is no command {name}\n{usage}", name=shown(argv[0], 40), usage=USAGE)
        unclear.lines = True
        raise unclear
    kind, extra = USUAL, argv[1:]
    if argv[0] == "test" and extra and extra[0] in BY_OPTION:
        kind, extra = BY_OPTION[extra[0]], extra[1:]
        run_with(kind, argv)
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        raise UserError("this is Python {version}; RVC-LoRA's environment needs 3.8 to 3.13, best 3.11: run it with "
                        "that one (python3.11 run.py ..., on Windows: py -3.11 run.py ...)", version=version())
    if argv[0] == "app" and not (ROOT / "LoraModel" / "webui" / "app.py").exists():
        raise UserError("the web page is not built yet; `python run.py demo` shows what there is")
    launch([str(ensure(ROOT, kind) if kind is not USUAL else ensure(ROOT)), *arguments(argv[0], extra, kind)])


if __name__ == "__main__":
    sys.exit(cli(main, stopped=UserError("interrupted; run the same command again to continue")))
