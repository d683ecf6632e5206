"""start.sh, prepare_data.sh and the .bat files: the shell scripts are run with a Python that tells what it was given;
of the .bat files, which need Windows, the logic is followed line by line (helpers/batch_files.py)."""

import ntpath
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from batch_files import Windows, words

ROOT = Path(__file__).resolve().parents[2]
BATCH = [ROOT / "start.bat", ROOT / "install_into_rvc.bat", ROOT / "LoraModel" / "scripts" / "prepare_data.bat"]
posix = pytest.mark.skipif(os.name == "nt", reason="a shell script")


@pytest.fixture
def told(tmp_path):
    """`told(script, *arguments)`: the arguments that the script's Python gets."""
    stub = tmp_path / "python stub"
    stub.write_text(f"#!{sys.executable}\nimport sys\nprint('\\n'.join(sys.argv[1:]))\n", encoding="utf-8")
    stub.chmod(0o755)

    def run(script, *arguments, **environment):
        done = subprocess.run(
            ["sh", str(script), *arguments],
            env={**os.environ, "PYTHON": str(stub), **environment},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            check=True,
        )
        return done.stdout.decode().splitlines()

    return run


@posix
def test_prepare_data_takes_two_folders_or_options(told):
    script = ROOT / "LoraModel" / "scripts" / "prepare_data.sh"
    program = str(script.with_suffix(".py"))
    both = [program, "--input_dir", "my voice", "--output_dir", "logs/a b"]
    assert told(script, "my voice", "logs/a b", "--workers", "2") == [*both, "--workers", "2"]
    assert told(script, "--input_dir", "my voice", "--output_dir", "logs/a b") == both
    assert told(script, "my voice", "--output_dir", "logs/a b") == both
    assert told(script) == [program]


@posix
def test_start_opens_the_page_or_runs_what_is_named(told):
    assert told(ROOT / "start.sh") == ["run.py", "app"]
    assert told(ROOT / "start.sh", "--port", "7000") == ["run.py", "app", "--port", "7000"]
    assert told(ROOT / "start.sh", "demo", "--no-open") == ["run.py", "demo", "--no-open"]


@posix
def test_without_python_a_line_says_so(tmp_path):
    for script in (ROOT / "start.sh", ROOT / "LoraModel" / "scripts" / "prepare_data.sh"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        for name in ("dirname", "sh"):
            place = next(Path(folder) / name for folder in ("/bin", "/usr/bin") if (Path(folder) / name).exists())
            if not (tmp_path / "bin" / name).exists():
                (tmp_path / "bin" / name).symlink_to(place)
        if (
            any((ROOT / folder / "bin" / "python").exists() for folder in (".venv", "venv"))
            and script.name == "prepare_data.sh"
        ):
            continue  # it would find run.py's
        done = subprocess.run(
            [str(tmp_path / "bin" / "sh"), str(script)],
            env={"PATH": str(tmp_path / "bin")},
            capture_output=True,
        )
        assert (
            done.returncode == 2
            and done.stderr.decode().startswith("error: ")
            and "install Python 3.11" in done.stderr.decode()
        )


@pytest.mark.parametrize("path", BATCH, ids=lambda path: path.name)
def test_batch_files_are_such_that_cmd_runs_them(path):
    data = path.read_bytes()
    assert (
        data.isascii() and data.count(b"\r\n") == data.count(b"\n") > 5
    )  # cmd loses labels in files with bare line feeds
    lines = [line.strip() for line in data.decode("ascii").splitlines()]
    labels = {line[1:].lower() for line in lines if re.fullmatch(r":\w+", line)}
    targets = {
        found.lower()
        for line in lines
        if not line.startswith("rem")
        for found in re.findall(r"(?:goto|call) :?(\w+)", line)
    }
    assert targets <= labels and lines[0] == "@echo off" and "setlocal" in lines
    depth = 0
    for line in lines:
        assert not (depth and line.startswith(":")), "a label inside a block"
        depth += line.endswith("(") - (line == ")")
    assert depth == 0
    text = "\n".join(line for line in lines if not line.startswith("rem"))
    for quoted in re.findall(r'set "(\w+)=', text):
        assert f"%{quoted}%" in text, f"{quoted} is set and never used"
    assert re.search(r"exit /b %(errorlevel|CODE)%", text)
    for name in re.findall(r"%~dp0([\w.]+\.py)", text):
        assert (path.parent / name).is_file()
    assert text.replace(':"=%', "").count('"') % 2 == 0


def test_batch_files_look_for_rvcs_own_python_first():
    for path in BATCH[1:]:
        text = path.read_text(encoding="ascii")
        order = [
            text.index(part)
            for part in (r"runtime\python.exe", r".venv\Scripts\python.exe", r"\venv\Scripts\python.exe", 'set "PY')
        ]
        assert order[0] < order[1] < order[2] and order[0] > 0
    start = BATCH[0].read_text(encoding="ascii")
    assert start.index("py -3.11") < start.index('set "PY=python"') and "run.py app" in start


HERE, RVC = "C:\\RVC LoRA", "D:\\my RVC"


def test_installing_takes_the_python_that_rvc_brings():
    def run(*arguments, **machine):
        windows = Windows(**machine)
        return windows.run(BATCH[1], HERE + "\\install_into_rvc.bat", *arguments), windows

    def told(python, *options):
        return [python, HERE + "\\install_into_rvc.py", "--rvc_root", RVC, *options]

    places = [RVC + part + r"\python.exe" for part in (r"\runtime", r"\.venv\Scripts", r"\venv\Scripts")]
    for number, place in enumerate(places):  # each before those after it
        code, windows = run(RVC, "--status", files=places[number:], programs={place: 7})
        assert windows.started == [told(place, "--status")] and code == 7  # the program's own exit code
    code, windows = run(RVC, programs={"python": 0})
    assert (code, windows.started[-1]) == (0, told("python")) and not windows.paused
    code, windows = run(RVC, programs={"py": 0}, double_clicked=True)
    assert windows.started[-1] == told("py") and windows.paused  # the window stays open
    code, windows = run(RVC)
    assert code == 2 and "install Python 3.11" in windows.said[0] and RVC in windows.said[0]
    code, windows = run(answers=[f'"{RVC}"'], files=places[:1], programs={places[0]: 0})  # asked; pasted with quotes
    assert (code, windows.started) == (0, [told(places[0])])
    code, windows = run(answers=[RVC + "\\"], files=places[:1], programs={places[0]: 0})  # as cmd's Tab key ends it
    assert (code, windows.started) == (0, [told(places[0])])
    code, windows = run(answers=[""], double_clicked=True)
    assert (code, windows.said, windows.started) == (2, ["error: no folder was given"], []) and windows.paused
    code, windows = run(RVC, double_clicked=True)
    assert code == 2 and windows.paused  # dropped onto it, and there is no Python


def test_what_cmd_and_python_make_of_a_command_line():
    windows = Windows()
    path = BATCH[1]
    windows.programs["python"] = 0
    windows.run(path, HERE + "\\install_into_rvc.bat", RVC, "--uninstall")
    assert windows.started[-1][1] == HERE + "\\install_into_rvc.py"
    assert words(r'"a b\\" c\d "e\"f"') == ["a b\\", "c\\d", 'e"f'] and words(r'x "D:\RVC\" --status') == [
        "x", 'D:\\RVC" --status']


def test_starting_opens_the_page_or_runs_what_is_named_on_windows():
    def run(*arguments, **machine):
        windows = Windows(**machine)
        return windows.run(BATCH[0], HERE + "\\start.bat", *arguments), windows

    code, windows = run(programs={"py": 0})
    assert (code, windows.started[-1], windows.folder) == (0, ["py", "-3.11", "run.py", "app"], HERE + "\\")
    assert run("--port", "7000", programs={"py": 0})[1].started[-1][2:] == ["run.py", "app", "--port", "7000"]
    for command in ("demo", "test", "app", "DEMO"):
        assert run(command, programs={"py": 0})[1].started[-1] == ["py", "-3.11", "run.py", command]
    without_3_11 = {"py": lambda arguments: 1, "python": lambda arguments: 0 if arguments[0] == "-c" else 3}
    code, windows = run(programs=without_3_11, double_clicked=True)
    assert (code, windows.started[-1], windows.paused) == (3, ["python", "run.py", "app"], True)
    code, windows = run()
    assert code == 2 and "Add python.exe to PATH" in windows.said[0]


def test_preparing_takes_the_right_python_on_windows():
    script = HERE + "\\RVC\\LoraModel\\scripts\\prepare_data"

    def run(**machine):
        windows = Windows(**machine)
        code = windows.run(BATCH[2], script + ".bat", "--input_dir", "my voice", "--output_dir", "logs/a")
        return code, windows

    def told(python):
        return [python, script + ".py", "--input_dir", "my voice", "--output_dir", "logs/a"]

    runtime = HERE + "\\RVC\\runtime\\python.exe"
    code, windows = run(files=[runtime], programs={script.rpartition("\\")[0] + r"\..\..\runtime\python.exe": 4})
    assert code == 4 and ntpath.normpath(windows.started[0][0]) == runtime and windows.started[0][1:] == told("")[1:]
    assert run(variables={"PYTHON": "mine"}, files=[runtime], programs={"mine": 0})[1].started == [told("mine")]
    code, windows = run(programs={"python": 0})
    assert (code, windows.started[-1]) == (0, told("python"))
    shop = {"python": lambda arguments: 9009, "py": 0}  # Windows' own "python", which is on PATH and runs nothing
    assert run(programs=shop)[1].started[-1] == told("py")
    code, windows = run()
    assert code == 2 and "install Python 3.11" in windows.said[0]


def test_git_keeps_the_line_endings():
    rules = (ROOT / ".gitattributes").read_text(encoding="utf-8")
    assert "*.bat text eol=crlf" in rules and "*.sh text eol=lf" in rules
