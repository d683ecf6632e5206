"""What all commands share: errors in one line, exit codes, output on any console, types of options."""

import argparse
import errno
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from LoraModel import commands
from LoraModel.devices import check_device
from LoraModel.faults import describe_fault
from LoraModel.messages import UserError, cli
from LoraModel.paths import clean_path, printable

ROOT = Path(__file__).resolve().parents[2]


def raising(error):
    def main(_argv):
        raise error
    return main


def seen(error, capsys):
    """Exit code and the lines on standard error of a command that raises `error`."""
    code = commands.run(raising(error))
    return code, capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_error_of_the_system_is_one_line(number, capsys):
    code, lines = seen(OSError(number, os.strerror(number), "some/file.wav"), capsys)
    if number in (errno.EPIPE, errno.ESHUTDOWN):
        assert code == commands.GONE and lines == []
        return
    assert code == 2 and len(lines) == 1
    assert "some/file.wav" in lines[0] or "memory" in lines[0]


@pytest.mark.parametrize("error, said", [
    (IsADirectoryError(errno.EISDIR, "Is a directory", "out"), "out: it is a folder where a file is wanted"),
    (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"), "a part of this path is a file"),
    (OSError(errno.EROFS, "Read-only file system", "o.wav"), "read-only drive"),
    (OSError(errno.ENAMETOOLONG, "File name too long", "n" * 300), "too long"),
    (OSError("4096 requested and 0 written"), "the disk is full"),
    (RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0"), "the disk is full"),
    (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), "the disk is full"),
    (MemoryError(), "not enough memory"),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
     "not enough memory"),
    (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "--device cpu"),
    (RuntimeError("std::bad_alloc"), "not enough memory"),
    (RuntimeError("can't start new thread"), "not enough memory"),
    (ImportError("libtorch.so: failed to map segment from shared object"), "not enough memory"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough memory"),
    (FileNotFoundError(errno.ENOENT, "No such file", "a\nb\x1b[31m"), r"a\nb\x1b[31m"),
])
def test_faults_of_the_machine_are_said_in_words(error, said, capsys):
    code, lines = seen(error, capsys)
    assert code == 2 and len(lines) == 1 and said in lines[0]


def test_a_wrapped_error_is_recognised():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "v.pth")
        except OSError as error:
            raise RuntimeError("could not save") from error
    except RuntimeError as error:
        assert "v.pth" in str(describe_fault(error))


def test_a_file_that_there_was_no_memory_to_read_is_not_called_damaged(capsys):
    def main(argv):
        try:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes")
        except RuntimeError:
            raise UserError("v.pth is damaged") from None

    assert commands.run(main, []) == 2
    said = capsys.readouterr().err
    assert "not enough memory: close other programs" in said and "damaged" not in said
    assert str(describe_fault(UserError("v.pth is damaged"))) == "v.pth is damaged"


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(KeyError):
        commands.run(raising(KeyError("bug")))
    try:
        try:
            raise FileNotFoundError(errno.ENOENT, "No such file", "a")
        except FileNotFoundError:
            raise KeyError("bug") from None
    except KeyError as error:
        assert describe_fault(error) is None
    assert describe_fault(RuntimeError("shape mismatch")) is None


def test_ctrl_c_is_one_line_and_130(capsys):
    assert seen(KeyboardInterrupt(), capsys) == (130, ["stopped by Ctrl-C; no file was left half written"])
    assert cli(raising(KeyboardInterrupt()), stopped=UserError("ended")) == 130
    assert capsys.readouterr().err == "ended\n"


def test_a_message_is_one_line(capsys):
    assert seen(UserError("no file a\nb\u2028c\x1b[0m\udce9"),
                capsys) == (2, ["error: no file a\\nb\\u2028c\\x1b[0m\\udce9"])
    several = UserError("one\ntwo")
    several.lines = True
    assert seen(several, capsys)[1] == ["error: one", "two"]


PROGRAM = """
import sys
from LoraModel.commands import run
def main(_argv):
    {body}
sys.exit(run(main))
"""


def program(body, **settings):
    environment = {**os.environ, "RVC_LORA_LANG": "en", **settings.pop("env", {})}
    return subprocess.run([sys.executable, "-c", PROGRAM.format(body=body)], cwd=ROOT, env=environment,
                          capture_output=True, check=False, **settings)


@pytest.mark.parametrize("encoding", ["cp936", "cp1252", "ascii"])
def test_a_console_of_another_code_page_shows_what_it_can(encoding):
    done = program("print('wrote 声音é\\U0001f600\\udce9.wav'); print('说', file=sys.stderr)",
                   env={"PYTHONIOENCODING": encoding})
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    assert done.stdout.decode(encoding).startswith("wrote ") and b".wav" in done.stdout


def test_standard_streams_may_be_missing():
    body = "import tqdm; print('a'); [0 for _ in tqdm.tqdm([1])]; raise OSError(13, 'Permission denied', 'f')"
    code = PROGRAM.format(body=body).replace("sys.exit", "sys.stdout = sys.stderr = None\nsys.exit")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 2 and done.stderr == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_output_onto_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", PROGRAM.format(body="print('a' * 100)")], cwd=ROOT, stdout=full,
                              stderr=subprocess.PIPE, env={**os.environ, "RVC_LORA_LANG": "en"}, check=False)
    assert done.returncode == 2 and done.stderr.decode().count("\n") == 1 and b"disk is full" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes")
def test_a_reader_that_leaves_ends_the_command_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(body="print('a' * 100000)")], cwd=ROOT, stdout=writer,
                          stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.returncode == commands.GONE and done.stderr == b""


# ---------------------------------------------------------------- options

@pytest.mark.parametrize("typed, wanted", [
    ("a.wav", "a.wav"), (" a b.wav ", "a b.wav"), ('"a.wav"', "a.wav"), ("'a.wav' ", "a.wav"), ("“a.wav”", "a.wav"),
    ("\u202aC:/a.wav", "C:/a.wav"),
    ("\ufeff\"a.wav\"\n", "a.wav"), ("「歌.wav」", "歌.wav"), ("it's.wav", "it's.wav"), ("\"'a'\"", "a"),
    ("a\u202c", "a"), ("caf\udce9.wav", "caf\udce9.wav"),
])
def test_pasted_paths_are_cleaned(typed, wanted):
    assert clean_path(typed) == wanted


def test_a_path_that_is_there_stays_as_typed(tmp_path):
    for name in ("'quoted'", " blank ", "~x"):
        (tmp_path / name).write_bytes(b"")
        assert clean_path(str(tmp_path / name)) == str(tmp_path / name)


@pytest.mark.parametrize("typed, said", [
    ("a\0b", "NUL"), ("\ud800", "cannot have"), ("a" * 5000, "too long"), ("a/" * 2500, "too long"),
    ("b" * 300 + "/c", "too long"), ("~nosuchuser/x", "no user 'nosuchuser'"), ("", "empty"), (' "" ', "empty"),
])
def test_paths_that_no_system_takes_are_refused_in_one_line(typed, said):
    with pytest.raises(UserError, match=said) as caught:
        clean_path(typed)
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 400


def test_home_is_put_in_full():
    assert clean_path("~/a") == os.path.join(os.path.expanduser("~"), "a")


@pytest.mark.parametrize("typed", ["²", "１", "9" * 4000, "inf", "nan", "1e999", "", "one", "0x10", "1_000", "-1",
                                   "1.5", "Ⅳ"])
def test_what_is_no_seed_is_refused_in_words(typed):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        commands.seed(typed)
    assert len(str(caught.value)) < 300 and "between 0 and 4294967295" in str(caught.value)
    if typed not in ("-1", "1.5"):
        with pytest.raises(argparse.ArgumentTypeError):
            commands.number(0, 1)(typed)


def test_numbers_within_their_limits():
    assert commands.number(-48, 48)(" -3.5 ") == -3.5 and commands.number(0,
                                                                          1)("1e-2") == 0.01 and commands.whole(0, 8)(
                                                                              "7") == 7
    with pytest.raises(argparse.ArgumentTypeError, match="between -48 and 48"):
        commands.number(-48, 48)("49")


@pytest.mark.parametrize("typed, wanted", [("40k", 40000), ("40000", 40000), ("22.05k", 22050), ("48K", 48000),
                                           (16000, 16000), (None, None), ("44100 Hz".replace(" ", ""), 44100)])
def test_sample_rates(typed, wanted):
    assert commands.parse_rate(typed) == wanted


@pytest.mark.parametrize("typed", ["infk", "nank", "fast", "0", "-40000", "k", "40kk", "1e9", "²k", "4" * 4000, "1",
                                   "999999999k"])
def test_what_is_no_sample_rate_is_refused(typed):
    with pytest.raises(UserError) as caught:
        commands.parse_rate(typed)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("name", ["gpu", "meta", "cuda:²", "cpu:", "vulkan", "cuda:99999", "", "cuda:77"])
def test_devices_are_refused_in_plain_words(name):
    if name == "cuda:77" and torch.cuda.is_available() and torch.cuda.device_count() > 77:
        return
    with pytest.raises(UserError) as caught:
        check_device(name)
    assert "cpu" in str(caught.value) and "mkldnn" not in str(caught.value) and len(str(caught.value)) < 300
    assert check_device(" CPU ") == "cpu"


def test_wrong_options_are_one_line(capsys):
    parser = commands.Parser()
    parser.add_argument("--input", type=commands.path, required=True)
    parser.add_argument("--seed", type=commands.seed)
    for argv, said in ([], "--input"), (["--input", "a", "--seed", "²"],
                                        "--seed"), (["--input", "a\0"], "NUL"), (["--inputs", "a"], "--input"):
        assert commands.run(parser.parse_args, argv) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and said in lines[0] and "--help" in lines[0]


def test_options_are_refused_in_chinese(monkeypatch, capsys):
    monkeypatch.setenv("RVC_LORA_LANG", "zh")
    parser = commands.Parser()
    parser.add_argument("--input", type=commands.path, required=True)
    assert commands.run(parser.parse_args, []) == 2
    assert capsys.readouterr().err == "错误：缺少选项：--input（--help 可查看全部选项）\n"


def test_printable_keeps_ordinary_text():
    assert printable("声音 é 😀 a.wav") == "声音 é 😀 a.wav"


@pytest.mark.parametrize("module", [
    "training.train_lora", "inference.infer_lora", "scripts.merge_lora", "scripts.prepare_data",
    "scripts.convert_model"])
def test_help_tells_the_exit_codes(module, capsys):
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"LoraModel.{module}").main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    assert "exit codes: 0 done; 1 a fault of this program; 2 something for you to correct" in said
    worse = "3 trained, and worse than the base alone" in said
    assert worse is (module == "training.train_lora") and "130 stopped" in said
