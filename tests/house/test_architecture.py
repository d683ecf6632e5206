"""The house: which folder of LoraModel/ may import which, who knows RVC's names, and how large files and folders may
be.

docs/architecture.md draws what stands here. A new folder of LoraModel/ is entered in MAY_IMPORT first.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "LoraModel"
NOT_OURS = {"demo_output", "logs", "node_modules", "build", "dist", "app_data"}
FILES = sorted(path for path in ROOT.rglob("*.py")
               if not any(part.startswith(".") or part in NOT_OURS for part in path.relative_to(ROOT).parts))
OURS = [path for path in FILES if path.relative_to(ROOT).parts[0] == PACKAGE]
SOURCES = [path for path in FILES if path.relative_to(ROOT).parts[0] != "tests"]

MOST_FILES = 9
"""Python files of a folder, `__init__.py` not counted, above which its `__init__` says why ("More than nine files")."""

MOST_LINES = 400
"""Lines of a file."""

MAY_IMPORT: Dict[str, Set[str]] = {
    "lora": set(),
    "host": set(),
    "install": {"host"},
    "models": {"lora", "host"},
    "inference": {"models", "lora", "host"},
    "preparation": {"inference", "models", "host"},
    "training": {"preparation", "models", "lora", "host"},
    "doctor": {"evaluation", "preparation", "inference", "models", "host"},
    "conversion": {"evaluation", "training", "preparation", "inference", "models", "lora", "host"},
    "fleet": {"evaluation", "training", "preparation", "inference", "models", "lora", "host"},
    "realtime": {"inference", "models", "lora", "host"},
    "evaluation": {"inference", "models", "lora", "host"},
    "webui": {"doctor", "fleet", "conversion", "training", "preparation", "inference", "models", "lora", "host",
              "install"},
    "scripts": {"doctor", "fleet", "evaluation", "conversion", "realtime", "training", "preparation", "inference",
                "models", "lora", "host"},
    "demo": {"evaluation", "conversion", "training", "preparation", "inference", "models", "lora", "host"},
    "examples": {"webui", "evaluation", "realtime", "training", "preparation", "inference", "models", "lora", "host"},
}
"""Folder -> the folders that it may import; the files of LoraModel/ itself are everybody's. A command may import what
scripts/ may, wherever it lies: nothing imports it."""
ONLY = {("install", "host"): {f"{PACKAGE}.host.layouts"},
        ("examples", "webui"): {f"{PACKAGE}.webui.guard"}}
"""Where not the whole folder may be imported: the installer needs the standard library alone, and an example that
serves asks the guard whom it answers."""

ROOMS: Dict[str, Set[str]] = {"guard": set(), "runs": set(), "panel": set(), "preparing": {"runs"},
                              "lists": {"runs", "preparing"}, "tab": {"runs", "panel", "preparing", "lists"}}
"""Room of webui/ -> the rooms that it may import; none imports the page, `app` or `hooks`."""

RVC_PACKAGES = {"rvc", "infer", "train", "infer_pack", "i18n", "configs"}
RVC_PATH = re.compile(r"(?<![\w./])(?:rvc\.(?:lib|modules|configs|utils|synthesizer)|infer\.(?:lib|modules?)"
                      r"|train\.(?:data_utils|mel_processing|losses|utils|process_ckpt|preprocess)|(?:\w+\.)*infer_pack)(?![\w])")
RVC_ATTRIBUTES = {"m_source", "mel_basis", "if_f0", "tgt_sr", "hubert_model", "n_spk"}
"""Attributes of RVC's objects that host/ alone reads or sets."""
PLAYS_RVC = {f"{PACKAGE}/webui/app.py"}
"""What stands in for RVC's own script and converter, and so has their names."""


def folder_of(path: Path) -> str:
    """The folder of LoraModel/ that `path` (relative to the root) lies in; "" for all others."""
    return path.parts[1] if path.parts[0] == PACKAGE and len(path.parts) > 2 else ""


def imports(tree: ast.AST, path: Path) -> Iterator[Tuple[int, str]]:
    """(line, absolute dotted name) of everything imported; `from a import b` gives a.b. `path` is relative to the
    root."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = list(path.parent.parts)[:len(path.parent.parts) - node.level + 1] if node.level else []
            for alias in node.names:
                yield node.lineno, ".".join(above + ([node.module] if node.module else []) + [alias.name])


def docstrings(tree: ast.AST) -> Set[int]:
    """ids of the constants that are docstrings: prose may name RVC's modules."""
    return {id(node.body[0].value) for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.body
            and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)}


def is_command(source: str) -> bool:
    """Whether a file is run: it ends in `if __name__ == "__main__":`."""
    return re.search(r'^if __name__ == "__main__"', source, re.MULTILINE) is not None


def module_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts)


COMMANDS = {module_of(path.relative_to(ROOT)) for path in OURS if is_command(path.read_text(encoding="utf-8"))}


def against_the_arrows(source: str, path: Path, commands: Set[str] = COMMANDS) -> List[Tuple[int, str]]:
    """What `source` (at `path`, relative to the root) imports or names that it must not."""
    tree = ast.parse(source)
    folder = folder_of(path)
    found: List[Tuple[int, str]] = []
    for line, module in imports(tree, path):
        parts = module.split(".")
        if folder and parts[0] == PACKAGE and len(parts) > 1 and parts[1] in MAY_IMPORT and parts[1] != folder:
            only = ONLY.get((folder, parts[1]))
            allowed = MAY_IMPORT["scripts"] if is_command(source) and folder in MAY_IMPORT["scripts"] else MAY_IMPORT[
                folder]
            if parts[1] not in allowed or (only and not any(module.startswith(name) for name in only)):
                found.append((line, f"{folder}/ imports {module}"))
        if any(module == name or module.startswith(f"{name}.") for name in commands):
            found.append((line, f"{module} is a command: put what is shared into a module"))
        if folder != "host" and parts[0] in RVC_PACKAGES:
            found.append((line, f"RVC's {module} outside host/"))
    if folder == "host":
        return found
    prose = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            named = RVC_PATH.search(node.value)
            found += [(node.lineno, f"RVC's {named.group()} in a string outside host/")] if named else []
        elif isinstance(node,
                        ast.Attribute) and node.attr in RVC_ATTRIBUTES and folder and path.as_posix() not in PLAYS_RVC:
            found.append((node.lineno, f"RVC's attribute {node.attr} outside host/"))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_arrows_point_one_way(path):
    assert against_the_arrows(path.read_text(encoding="utf-8"), path.relative_to(ROOT)) == []


def test_every_folder_is_in_the_table():
    folders = {folder_of(path.relative_to(ROOT)) for path in OURS} - {""}
    assert folders <= set(MAY_IMPORT), "enter the new folder in MAY_IMPORT, and in docs/architecture.md"


def test_the_table_has_no_circle():
    """A folder stands above all that it may import: sorted from the ground, each finds its own below it."""
    placed: Set[str] = set()
    while len(placed) < len(MAY_IMPORT):
        free = {name for name, below in MAY_IMPORT.items() if below <= placed} - placed
        assert free, f"a circle among {sorted(set(MAY_IMPORT) - placed)}"
        placed |= free


@pytest.mark.parametrize("room", sorted({path.parent.name for path in OURS if path.parent.parent.name == "webui"}))
def test_the_rooms_of_the_page(room):
    for path in (ROOT / PACKAGE / "webui" / room).glob("*.py"):
        for _, module in imports(ast.parse(path.read_text(encoding="utf-8")), path.relative_to(ROOT)):
            other = module.split(".")[2] if module.startswith(f"{PACKAGE}.webui.") else room
            assert other == room or other in ROOMS[room] or other not in {*ROOMS, "app", "hooks"}, (path.name, module)


def test_lora_knows_pytorch_alone():
    """No layer's name of RVC's stands in lora/, and importing it imports neither host/ nor models/."""
    names = re.compile(r"\b(enc_p|enc_q|emb_g|resblocks|flows?\.|m_source|discriminators)\b")
    for path in (ROOT / PACKAGE / "lora").glob("*.py"):
        if path.name == "foreign_file.py":  # it tells other programs' files by the names in them
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        prose = docstrings(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                assert not names.search(node.value), f"{path.name}, line {node.lineno}: {node.value!r}"
    code = ("import sys, LoraModel.lora\nsys.exit(any(name.startswith(('LoraModel.host', 'LoraModel.models')) "
            "for name in sys.modules))")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_installer_needs_the_standard_library_alone():
    code = ("import sys, LoraModel.install.plan, LoraModel.install.report, LoraModel.install.packages\n"
            "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'gradio', 'safetensors', 'librosa')))")
    assert subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("folder", sorted({path.parent for path in SOURCES}), ids=lambda path: path.name)
def test_a_folder_can_be_looked_through(folder):
    files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    if len(files) > MOST_FILES:
        text = (folder / "__init__.py").read_text(encoding="utf-8")
        assert "More than nine files" in re.sub(r"\s+", " ", ast.get_docstring(ast.parse(text))
                                                or ""), f"{len(files)} files, and no reason"


def test_no_test_file_imports_another():
    """What two of them share lies in tests/helpers/."""
    for path in (ROOT / "tests").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = [name for _, name in imports(tree, path.relative_to(ROOT)) if name.startswith("test_")]
        assert found == [], f"{path.name} imports {found[0].partition('.')[0]}: put what they share into tests/helpers/"


def test_a_file_can_be_held_in_the_head():
    long = [path.relative_to(ROOT).as_posix() for path in FILES
            if path.read_text(encoding="utf-8").count("\n") > MOST_LINES]
    assert long == [], "split them by concept"


def test_only_what_is_run_changes_the_path_of_imports():
    """`sys.path` is patched in the first lines of what is run by its path, once, and where RVC's code is called."""
    allowed = {f"{PACKAGE}/host/{name}.py" for name in ("layout", "pipeline", "launch")}
    for path in SOURCES:
        source, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
        changes = len(re.findall(r"^\s*sys\.path(?:\[[^\]]*\] = |\.insert|\.append)", source, re.MULTILINE))
        if name not in allowed:
            assert changes <= (1 if is_command(source) else 0), f"{name} changes sys.path {changes} times"


@pytest.mark.parametrize("where, source", [
    ("LoraModel/lora/a.py", "from LoraModel.host import layout"),
    ("LoraModel/lora/a.py", "from LoraModel import host"),
    ("LoraModel/lora/a.py", "from ..host.layout import find_host"),
    ("LoraModel/lora/a.py", "def f():\n    import LoraModel.models.model_utils"),
    ("LoraModel/lora/a.py", "from rvc.lib.infer_pack import models"),
    ("LoraModel/host/a.py", "from LoraModel.models import model_utils"),
    ("LoraModel/models/a.py", "from LoraModel.training.config import TrainConfig"),
    ("LoraModel/models/a.py", "import importlib\nimportlib.import_module('infer.lib.infer_pack.models')"),
    ("LoraModel/training/a.py", "from infer.lib.train import data_utils"),
    ("LoraModel/training/a.py", "from train.data_utils import TextAudioLoader"),
    ("LoraModel/training/a.py", "NAME = 'rvc.lib.train.losses'"),
    ("LoraModel/training/a.py", "NAME = f'{x} infer.module.models'"),
    ("LoraModel/training/a.py", "module.mel_basis.clear()"),
    ("LoraModel/inference/a.py", "from LoraModel.webui import panel"),
    ("LoraModel/inference/a.py", "network.dec.m_source(f0, 1)"),
    ("LoraModel/inference/a.py", "from ..training.train_lora import report"),
    ("LoraModel/training/a.py", "from ..evaluation.metrics import mel_l1"),
    ("LoraModel/evaluation/a.py", "from ..training import Trainer"),
    ("LoraModel/inference/a.py", "from LoraModel.demo import features"),
    ("LoraModel/install/a.py", "from ..host import find_host"),
    ("LoraModel/webui/a.py", "from ..scripts import merge_lora"),
    ("LoraModel/webui/a.py", "from LoraModel.inference.infer_lora import main"),
    ("bench/a.py", "import rvc.lib.rmvpe"),
    ("bench/a.py", "from LoraModel.scripts.prepare_data import main"),
    ("run.py", "code = 'from infer.modules.vc import pipeline'"),
])
def test_an_arrow_the_wrong_way_is_found(where, source):
    assert against_the_arrows(source, Path(where))


@pytest.mark.parametrize("where, source", [
    ("LoraModel/host/a.py", "from rvc.lib.infer_pack import models\nNAME = 'infer.lib.train'"),
    ("LoraModel/lora/a.py", "from LoraModel.messages import tr\nfrom .functional import delta\nimport torch"),
    ("LoraModel/models/a.py", "from LoraModel.host.layout import find_host"),
    ("LoraModel/install/a.py", "from ..host.layouts import layout_at\nfrom ..files import atomic_write"),
    ("LoraModel/training/a.py", "from LoraModel.training.losses import mel\nNAME = 'LoraModel.training.losses'"),
    ("LoraModel/training/a.py", '"""As RVC\'s infer.lib.train.losses does."""'),
    ("LoraModel/scripts/a.py", "from LoraModel.inference.stand_in import features\nNAME = 'training/train.jsonl'"),
])
def test_an_arrow_the_right_way_is_left_alone(where, source):
    assert against_the_arrows(source, Path(where)) == []
