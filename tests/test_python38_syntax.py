"""Every file reads as Python 3.8, and the arrows between the folders of LoraModel/ point one way."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List, Set, Tuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "LoraModel"
NOT_OURS = {"demo_output", "logs", "node_modules", "build", "dist"}

FILES = sorted(path for path in ROOT.rglob("*.py")
               if not any(part.startswith(".") or part in NOT_OURS for part in path.relative_to(ROOT).parts))

BUILTIN_TYPES = {"int", "float", "str", "bytes", "bool", "complex", "object", "list", "dict", "tuple", "set", "frozenset", "type"}
GENERIC_BUILTINS = {"list", "dict", "tuple", "set", "frozenset", "type"}
NEWER_METHODS = {"removeprefix": "3.9", "removesuffix": "3.9", "is_relative_to": "3.9", "with_stem": "3.9", "readlink": "3.9",
                 "hardlink_to": "3.10", "bit_count": "3.10", "add_note": "3.11"}
NEWER_IN_MODULES = {("functools", "cache"), ("itertools", "pairwise"), ("math", "lcm"), ("asyncio", "to_thread"), ("random", "randbytes"),
                    ("contextlib", "chdir"), ("contextlib", "aclosing"), ("typing", "Annotated"), ("typing", "TypeAlias"),
                    ("typing", "ParamSpec"), ("typing", "Self"), ("itertools", "batched"), ("ast", "unparse")}
NEWER_KEYWORDS = {("zip", "strict"), ("dataclass", "slots"), ("dataclass", "kw_only"), ("field", "kw_only"), ("basicConfig", "encoding"),
                  ("write_text", "newline"), ("TemporaryDirectory", "ignore_cleanup_errors"), ("Argument", "exit_on_error")}
NEWER_MODULES = {"zoneinfo", "graphlib", "tomllib"}


# ---------------------------------------------------------------- the language

def name_of(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def is_type(node: ast.AST) -> bool:
    """Whether an operand of `|` is certainly a type: None, a built-in type, something subscripted with types, another such union."""
    if isinstance(node, ast.Constant):
        return node.value is None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return is_type(node.left) or is_type(node.right)
    if isinstance(node, ast.Subscript):
        return name_of(node.value) in GENERIC_BUILTINS | {"List", "Dict", "Tuple", "Set", "Optional", "Union", "Callable", "Type"}
    return isinstance(node, ast.Name) and node.id in BUILTIN_TYPES


def annotations(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if isinstance(getattr(node, field, None), ast.AST):
                yield getattr(node, field)


def unions(node: ast.AST) -> List[ast.AST]:
    return [part for part in ast.walk(node) if isinstance(part, ast.BinOp) and isinstance(part.op, ast.BitOr)]


def generics(node: ast.AST) -> List[ast.AST]:
    return [part for part in ast.walk(node)
            if isinstance(part, ast.Subscript) and isinstance(part.value, ast.Name) and part.value.id in GENERIC_BUILTINS]


def newer_than_38(source: str) -> List[Tuple[int, str]]:
    """Lines of `source` that Python 3.8 refuses, when it reads them or when it runs them."""
    try:
        tree = ast.parse(source, feature_version=(3, 8))
    except SyntaxError as error:
        return [(error.lineno or 0, f"syntax: {error.msg}")]
    postponed = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" and any(a.name == "annotations" for a in node.names)
                    for node in tree.body)
    in_annotations: Set[int] = {id(part) for annotation in annotations(tree) for part in ast.walk(annotation)}
    found: List[Tuple[int, str]] = []
    if not postponed:
        for annotation in annotations(tree):
            found += [(part.lineno, "X | Y annotation without `from __future__ import annotations`") for part in unions(annotation)]
            found += [(part.lineno, "list[...] annotation without `from __future__ import annotations`") for part in generics(annotation)]
    for node in ast.walk(tree):
        if id(node) in in_annotations:
            continue
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and (is_type(node.left) or is_type(node.right)):
            found.append((node.lineno, "X | Y of types at run time"))
        elif isinstance(node, ast.Subscript) and node in generics(node):
            found.append((node.lineno, "list[...] and the like at run time"))
        elif isinstance(node, ast.Attribute):
            if node.attr in NEWER_METHODS:
                found.append((node.lineno, f".{node.attr} is Python {NEWER_METHODS[node.attr]}'s"))
            elif (name_of(node.value), node.attr) in NEWER_IN_MODULES:
                found.append((node.lineno, f"{name_of(node.value)}.{node.attr} is newer than 3.8"))
        elif isinstance(node, ast.ImportFrom):
            found += [(node.lineno, f"{node.module}.{a.name} is newer than 3.8") for a in node.names if (node.module, a.name) in NEWER_IN_MODULES]
            found += [(node.lineno, f"{node.module} is newer than 3.8")] if node.module in NEWER_MODULES else []
        elif isinstance(node, ast.Import):
            found += [(node.lineno, f"{a.name} is newer than 3.8") for a in node.names if a.name in NEWER_MODULES]
        elif isinstance(node, ast.Call):
            called = name_of(node.func)
            found += [(node.lineno, f"{called}({k.arg}=...) is newer than 3.8") for k in node.keywords if (called, k.arg) in NEWER_KEYWORDS]
            if called in ("isinstance", "issubclass") and len(node.args) == 2:
                found += [(part.lineno, f"{called}(x, A | B)") for part in unions(node.args[1])]
    return sorted(set(found))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_is_python_38(path):
    assert newer_than_38(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("source", [
    "match x:\n    case 1: pass",
    "with (open('a') as a, open('b') as b): pass",
    "def f(x: int | None): pass",
    "def f() -> 'x' | None: pass",
    "x: list[int] = []",
    "from __future__ import annotations\nisinstance(x, A | B)",
    "from __future__ import annotations\nNumber = int | float",
    "from __future__ import annotations\nMaybe = Tensor | None",
    "from __future__ import annotations\nPairs = dict[str, int]",
    "'a'.removeprefix('b')",
    "from functools import cache",
    "import functools\n@functools.cache\ndef f(): pass",
    "zip(a, b, strict=True)",
    "@dataclass(slots=True)\nclass A: pass",
    "import tomllib",
])
def test_what_38_refuses_is_found(source):
    assert newer_than_38(source)


@pytest.mark.parametrize("source", [
    "from __future__ import annotations\ndef f(x: int | None) -> list[int]: pass",
    "flags = re.A | re.B\nboth = {1} | other\nmask = (a > 1) | (b < 2)",
    "if (n := 1) and True: pass\ndef f(a, /, b): pass",
    "from typing import Dict, Optional\nx: Optional[Dict[str, int]] = None",
    "zip(a, b)\nd = list(a)[0]",
])
def test_what_38_takes_is_left_alone(source):
    assert newer_than_38(source) == []


# ---------------------------------------------------------------- the architecture

RVC_PACKAGES = {"rvc", "infer", "train", "infer_pack", "i18n", "configs"}
RVC_PATH = re.compile(r"(?<![\w./])(?:rvc\.(?:lib|modules|configs|utils|synthesizer)|infer\.(?:lib|modules?)"
                      r"|train\.(?:data_utils|mel_processing|losses|utils|process_ckpt|preprocess)|(?:\w+\.)*infer_pack)(?![\w])")
UPPER = ("training", "inference", "preparation", "evaluation", "scripts", "demo", "webui", "examples")
FORBIDDEN = {  # a folder of LoraModel/ and the folders of LoraModel/ that it must not import
    "lora": ("host", "models") + UPPER,
    "host": ("models",) + UPPER,
    "models": UPPER,
    "preparation": ("training", "evaluation", "scripts", "webui", "demo", "examples"),
    "training": ("evaluation", "scripts", "webui", "demo", "examples"),
    "inference": ("evaluation", "scripts", "webui", "demo", "examples"),
    "evaluation": ("training", "scripts", "webui", "demo", "examples"),
    "webui": ("evaluation", "demo"),
    "scripts": ("demo",),
}


def imports(tree: ast.AST, path: Path) -> Iterator[Tuple[int, str]]:
    """(line, absolute dotted name) of everything imported; `from a import b` gives a.b. `path` is relative to the root."""
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


def against_the_arrows(source: str, path: Path) -> List[Tuple[int, str]]:
    """Imports of `source` (at `path`, relative to the root) that go up the house, and RVC's module paths outside host/."""
    tree = ast.parse(source)
    folder = path.parts[1] if path.parts[0] == PACKAGE and len(path.parts) > 2 else ""
    found: List[Tuple[int, str]] = []
    for line, module in imports(tree, path):
        parts = module.split(".")
        if parts[0] == PACKAGE and len(parts) > 1 and parts[1] in FORBIDDEN.get(folder, ()):
            found.append((line, f"{folder}/ imports {module}"))
        if folder != "host" and parts[0] in RVC_PACKAGES:
            found.append((line, f"RVC's {module} outside host/"))
    if folder != "host":
        prose = docstrings(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose and RVC_PATH.search(node.value):
                found.append((node.lineno, f"RVC's {RVC_PATH.search(node.value).group()} in a string outside host/"))
    return found


@pytest.mark.parametrize("path", [path for path in FILES if path.relative_to(ROOT).parts[0] != "tests"],
                         ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_arrows_point_one_way(path):
    assert against_the_arrows(path.read_text(encoding="utf-8"), path.relative_to(ROOT)) == []


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
    ("LoraModel/inference/a.py", "from LoraModel.webui import panel"),
    ("LoraModel/training/a.py", "from ..evaluation.metrics import mel_l1"),
    ("LoraModel/evaluation/a.py", "from ..training import Trainer"),
    ("LoraModel/inference/a.py", "from LoraModel.demo import features"),
    ("bench/a.py", "import rvc.lib.rmvpe"),
    ("run.py", "code = 'from infer.modules.vc import pipeline'"),
])
def test_an_arrow_the_wrong_way_is_found(where, source):
    assert against_the_arrows(source, Path(where))


@pytest.mark.parametrize("where, source", [
    ("LoraModel/host/a.py", "from rvc.lib.infer_pack import models\nNAME = 'infer.lib.train'"),
    ("LoraModel/lora/a.py", "from LoraModel.messages import tr\nfrom .functional import delta\nimport torch"),
    ("LoraModel/models/a.py", "from LoraModel.host.layout import find_host"),
    ("LoraModel/training/a.py", "from LoraModel.training.losses import mel\nNAME = 'LoraModel.training.losses'"),
    ("LoraModel/training/a.py", '"""As RVC\'s infer.lib.train.losses does."""'),
    ("LoraModel/scripts/a.py", "from LoraModel.inference.stand_in import features\nNAME = 'training/train.jsonl'"),
])
def test_an_arrow_the_right_way_is_left_alone(where, source):
    assert against_the_arrows(source, Path(where)) == []


def test_every_file_was_looked_at():
    names = {path.relative_to(ROOT).as_posix() for path in FILES}
    assert {"run.py", "LoraModel/messages.py", "LoraModel/lora/functional.py", "tests/test_python38_syntax.py"} <= names


def test_ruff_finds_nothing():
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    assert ruff, "ruff is not installed: pip install -r requirements-dev.txt -c constraints.txt"
    done = subprocess.run([ruff, "check", "--no-cache", "--output-format", "concise", "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
