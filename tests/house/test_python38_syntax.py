"""Every file reads as Python 3.8, and ruff finds nothing. The arrows between the folders: test_architecture.py."""

from __future__ import annotations

import ast
import io
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import Iterator, List, Set, Tuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = {"demo_output", "logs", "node_modules", "build", "dist"}

FILES = sorted(path for path in ROOT.rglob("*.py")
               if not any(part.startswith(".") or part in NOT_OURS for part in path.relative_to(ROOT).parts))

BUILTIN_TYPES = {"int", "float", "str", "bytes", "bool", "complex", "object", "list", "dict", "tuple", "set",
                 "frozenset", "type"}
GENERIC_BUILTINS = {"list", "dict", "tuple", "set", "frozenset", "type"}
NEWER_METHODS = {"removeprefix": "3.9", "removesuffix": "3.9", "is_relative_to": "3.9", "with_stem": "3.9",
                 "readlink": "3.9", "hardlink_to": "3.10", "bit_count": "3.10", "add_note": "3.11"}
NEWER_IN_MODULES = {("functools", "cache"), ("itertools", "pairwise"), ("math", "lcm"), ("asyncio", "to_thread"),
                    ("random", "randbytes"),
                    ("contextlib", "chdir"), ("contextlib", "aclosing"), ("typing", "Annotated"),
                    ("typing", "TypeAlias"),
                    ("typing", "ParamSpec"), ("typing", "Self"), ("itertools", "batched"), ("ast", "unparse")}
NEWER_KEYWORDS = {("zip", "strict"), ("dataclass", "slots"), ("dataclass", "kw_only"), ("field", "kw_only"),
                  ("basicConfig", "encoding"),
                  ("write_text", "newline"), ("TemporaryDirectory", "ignore_cleanup_errors"),
                  ("Argument", "exit_on_error")}
NEWER_MODULES = {"zoneinfo", "graphlib", "tomllib"}


# ---------------------------------------------------------------- the language

def name_of(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def is_type(node: ast.AST) -> bool:
    """Whether an operand of `|` is certainly a type: None, a built-in type, something subscripted with types, another
    such union."""
    if isinstance(node, ast.Constant):
        return node.value is None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return is_type(node.left) or is_type(node.right)
    if isinstance(node, ast.Subscript):
        return name_of(node.value) in GENERIC_BUILTINS | {"List", "Dict", "Tuple", "Set", "Optional", "Union",
                                                          "Callable", "Type"}
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
            if isinstance(part, ast.Subscript) and isinstance(part.value, ast.Name)
            and part.value.id in GENERIC_BUILTINS]


def named_in_parentheses(source: str) -> List[int]:
    """Lines of `with (… as …):`, which the parser of Python 3.13 takes whatever version it is told."""
    found: List[int] = []
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    for number, token in enumerate(tokens[:-1]):
        if token.string != "with" or token.type != tokenize.NAME or tokens[number + 1].string != "(":
            continue
        depth = 0
        for inner in tokens[number + 1:]:
            depth += (inner.string in "([{") - (inner.string in ")]}") if inner.type == tokenize.OP else 0
            if depth == 0:
                break
            if depth == 1 and inner.string == "as":
                found.append(token.start[0])
                break
    return found


def newer_than_38(source: str) -> List[Tuple[int, str]]:
    """Lines of `source` that Python 3.8 refuses, when it reads them or when it runs them."""
    try:
        tree = ast.parse(source, feature_version=(3, 8))
    except SyntaxError as error:
        return [(error.lineno or 0, f"syntax: {error.msg}")]
    postponed = any(isinstance(node, ast.ImportFrom) and node.module == "__future__"
                    and any(a.name == "annotations" for a in node.names)
                    for node in tree.body)
    in_annotations: Set[int] = {id(part) for annotation in annotations(tree) for part in ast.walk(annotation)}
    found: List[Tuple[int, str]] = [(line, "syntax: parentheses around what `with` names")
                                    for line in named_in_parentheses(source)]
    if not postponed:
        for annotation in annotations(tree):
            found += [(part.lineno, "X | Y annotation without `from __future__ import annotations`")
                      for part in unions(annotation)]
            found += [(part.lineno, "list[...] annotation without `from __future__ import annotations`")
                      for part in generics(annotation)]
    for node in ast.walk(tree):
        if id(node) in in_annotations:
            continue
        if isinstance(node, ast.BinOp) and isinstance(node.op,
                                                      ast.BitOr) and (is_type(node.left) or is_type(node.right)):
            found.append((node.lineno, "X | Y of types at run time"))
        elif isinstance(node, ast.Subscript) and node in generics(node):
            found.append((node.lineno, "list[...] and the like at run time"))
        elif isinstance(node, ast.Attribute):
            if node.attr in NEWER_METHODS:
                found.append((node.lineno, f".{node.attr} is Python {NEWER_METHODS[node.attr]}'s"))
            elif (name_of(node.value), node.attr) in NEWER_IN_MODULES:
                found.append((node.lineno, f"{name_of(node.value)}.{node.attr} is newer than 3.8"))
        elif isinstance(node, ast.ImportFrom):
            found += [(node.lineno, f"{node.module}.{a.name} is newer than 3.8") for a in node.names
                      if (node.module, a.name) in NEWER_IN_MODULES]
            found += [(node.lineno, f"{node.module} is newer than 3.8")] if node.module in NEWER_MODULES else []
        elif isinstance(node, ast.Import):
            found += [(node.lineno, f"{a.name} is newer than 3.8") for a in node.names if a.name in NEWER_MODULES]
        elif isinstance(node, ast.Call):
            called = name_of(node.func)
            found += [(node.lineno, f"{called}({k.arg}=...) is newer than 3.8") for k in node.keywords
                      if (called, k.arg) in NEWER_KEYWORDS]
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


def test_every_file_was_looked_at():
    names = {path.relative_to(ROOT).as_posix() for path in FILES}
    assert {"run.py", "LoraModel/messages.py", "LoraModel/lora/functional.py",
            "tests/house/test_python38_syntax.py"} <= names


def test_ruff_finds_nothing():
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    assert ruff, "ruff is not installed: pip install -r requirements-dev.txt -c constraints.txt"
    done = subprocess.run([ruff, "check", "--no-cache", "--output-format", "concise", "."], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_of_test_files_are_unique():
    """pytest imports a test file by its name alone, and what tests share lies in tests/helpers/, once."""
    names = [path.name for path in FILES if path.relative_to(ROOT).parts[0] == "tests"]
    assert sorted(names) == sorted(set(names))
    others = [path for path in FILES if path.relative_to(ROOT).parts[0] == "tests"
              and not path.name.startswith("test_") and path.name != "conftest.py"]
    assert {path.parent.name for path in others} == {"helpers"}
