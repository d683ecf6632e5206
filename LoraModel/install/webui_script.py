"""The few lines that RVC's WebUI script needs: where they go, how they are put in and taken out again, byte for byte.

Standard library only (with LoraModel/messages.py, which is the same).

The lines call `LoraModel/webui/hooks.py`, which has three functions. Each takes the script's own `globals()`, a live
dictionary:

    setup(namespace)            at module level, just before `vc = VC(config)`: `config`, `VC`, `torch`, `gr` are in it.
                                The place to patch classes; no component may be made here. `vc` and `i18n` come later,
                                in the same dictionary.
    inference_panel(namespace)  inside the first tab, right below the row that holds RVC's voice list, as a child of
    that tab: `vc`, `i18n`,
                                `sid0`, `refresh_button`, `clean_button`, `spk_item` are in it; `file_index1`... and
                                `protect0`... are not yet.
    train_tab(namespace)        inside `with gr.Tabs():`, after RVC's Train tab (the last one where there is none):
                                makes the tab (`with gr.TabItem(...)`)
    and attaches the panel's
                                events that need what came later: `file_index1`, `protect0`, `protect1`, `vc_output2`,
                                `but0`, and `file_index2`... where the script has them (classic). `app` is the open
                                `gr.Blocks`, under the name that the script gives it;
                                `gradio.context.Context.root_block` is the same object under any name.

An exception in one of them, or its absence, is printed; the parts after it are skipped and RVC goes on without them.
So a part should gather what can fail before it makes its first component.
"""

from __future__ import annotations

import ast
import hashlib
import io
import os
import re
import tokenize
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Tuple

from ..host.layouts import ANCHORS, CHECKOUTS, layout_at
from ..messages import Text, UserError

BEGIN, END = "# >>> RVC-LoRA", "# <<< RVC-LoRA"
_BEGIN = re.compile(rb"[ \t]*# >>> RVC-LoRA(?: ([0-9a-f]{8}))?\s*$")
_END = re.compile(rb"[ \t]*# <<< RVC-LoRA\s*$")

_SETUP = '''def rvc_lora(part):  # install_into_rvc.py put these lines in; with --uninstall it takes them out
    global rvc_lora
    try:
        from LoraModel.webui import hooks

        getattr(hooks, part)(globals())
    except Exception:
        import sys
        import traceback

        traceback.print_exc()
        print("RVC-LoRA: %s failed; RVC runs without it (RVC-LoRA 出错，RVC 照常运行)" % part, file=sys.stderr)
        rvc_lora = lambda part: None


rvc_lora("setup")'''
_PANEL = 'rvc_lora("inference_panel")'
_TAB = 'rvc_lora("train_tab")'
_WINDOW = '''try:  # install_into_rvc.py put these lines in; with --uninstall it takes them out
    from LoraModel.realtime import window as rvc_lora_window

    rvc_lora_window.setup(globals())
except Exception:
    import traceback

    traceback.print_exc()
    print("RVC-LoRA failed; the window runs without it (RVC-LoRA 出错，窗口照常运行)", file=sys.stderr)'''
WINDOWS = tuple(layout.realtime_window for layout in CHECKOUTS)
"""The scripts of RVC's realtime windows. Their lines stand just before `gui = GUI()`, where the window is made."""


def layout_of(root: Path) -> Optional[Tuple[str, Path]]:
    """(layout, WebUI script) of the RVC checkout in `root`, or None where there is no checkout."""
    layout = layout_at(root)
    return (layout.name, root / layout.webui_script) if layout is not None else None


def window_of(root: Path) -> Optional[Path]:
    """The script of the realtime window in the checkout in `root`; None where it has none."""
    layout = layout_at(root)
    script = root / layout.realtime_window if layout is not None and layout.realtime_window else None
    return script if script is not None and script.is_file() else None


def litter_of(script: Path) -> List[Path]:
    """What a run that was killed while it wrote the script left beside it."""
    real = Path(os.path.realpath(str(script)))
    return [path for path in real.parent.iterdir() if path.name.startswith(f".{real.name}.") and path.suffix == ".tmp"]


# ---------------------------------------------------------------- lines

def _lines(source: bytes) -> List[bytes]:
    """The lines as Python counts them, each with its own ending: \\n, \\r\\n or \\r."""
    return source.splitlines(keepends=True)


def _ending(line: bytes) -> bytes:
    return line[len(line.rstrip(b"\r\n")):]


def _checksum(inner: List[bytes]) -> str:
    """Of a block's lines, whatever their indentation, endings and blank lines."""
    lines = b"\n".join(line.strip() for line in inner if line.strip())
    return hashlib.sha256(lines).hexdigest()[:8]


class _Insertion(NamedTuple):
    line: int  # index of the line that the block comes before; the count of lines for the end of the file
    indent: bytes
    text: str


def _block(insertion: _Insertion, ending: bytes, encoding: str) -> List[bytes]:
    inner = [line.encode(encoding, "backslashreplace") for line in insertion.text.split("\n")]
    marked = [f"{BEGIN} {_checksum(inner)}".encode(), *inner, END.encode()]
    return [(insertion.indent + line if line else line) + ending for line in marked]


def _insert(lines: List[bytes], insertion: _Insertion, encoding: str) -> None:
    """Put one block in, ended as the line beside it is. At the end of a file that ends without a newline, so does the
    block."""
    beside = [*lines[insertion.line - 1:insertion.line], *lines[insertion.line:insertion.line + 1],
              *reversed(lines[:insertion.line])]
    ending = next((_ending(line) for line in beside if _ending(line)), b"\n")
    block = _block(insertion, ending, encoding)
    if insertion.line == len(lines) and not _ending(lines[-1]):
        lines[-1] += ending
        block[-1] = block[-1].rstrip(b"\r\n")
    lines[insertion.line:insertion.line] = block


# ---------------------------------------------------------------- where they go

def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and everything under it that runs with the module's own names."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            yield from _outside_functions(child)


def _opens(node: ast.AST, *names: str) -> bool:
    """Whether `node` is `with gr.NAME(...):` for one of `names`."""
    if not isinstance(node, ast.With):
        return False
    called = [item.context_expr.func for item in node.items if isinstance(item.context_expr, ast.Call)]
    return any(getattr(func, "attr", getattr(func, "id", None)) in names for func in called)


def _assigns(node: ast.AST, name: str) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def _sets(statement: ast.AST, name: str) -> bool:
    return any(_assigns(node, name) for node in _outside_functions(statement))


def _makes_vc(statement: ast.AST) -> bool:
    return any(_assigns(node, ANCHORS.converter) and isinstance(node.value, ast.Call)
               and getattr(node.value.func, "attr", getattr(node.value.func, "id", None)) == ANCHORS.converter_class
               for node in _outside_functions(statement))


def _refuse(script: str, reason: Text) -> UserError:
    return UserError("{script} was left as it is: {reason}", script=script, reason=reason)


def _after(statement: ast.stmt, lines: List[bytes], text: str, script: str) -> _Insertion:
    first = lines[statement.lineno - 1]
    indent = first[:statement.col_offset]
    if indent.strip():
        raise _refuse(script, Text("line {lineno} holds several statements, so that nothing can be put after it: "
                                   "write them on lines of their own, then run this again", lineno=statement.lineno))
    return _Insertion(statement.end_lineno or statement.lineno, indent, text)


def _insertions(tree: ast.Module, lines: List[bytes], script: str) -> List[_Insertion]:
    converter = next((i for i, statement in enumerate(tree.body) if _makes_vc(statement)), None)
    if converter is None:
        raise _refuse(script, Text("it has no `vc = VC(config)` at its top level, where RVC makes its converter: put "
                                   "the line back (`git diff -- {script}` shows what was changed), then run this again",
                                   script=script))
    while converter and tree.body[converter - 1].end_lineno == tree.body[converter].lineno:  # a; b
        converter -= 1
    pages = [node for node in _outside_functions(tree) if _opens(node, *ANCHORS.page)]
    tabs = [node for page in pages for node in _outside_functions(page) if _opens(node, *ANCHORS.tabs)]
    if not tabs:
        raise _refuse(script, Text("it has no `with gr.Tabs():` inside a `with gr.Blocks(...):` at its top level, "
                                   "where RVC lays out its page"))
    for group in tabs:
        for tab in (node for node in _outside_functions(group) if _opens(node, *ANCHORS.tab)):
            holder = next((statement for statement in tab.body if _sets(statement, ANCHORS.voice_list)), None)
            if holder is not None and holder.lineno < tree.body[converter].lineno:
                raise _refuse(script, Text("it makes its converter (`vc`, line {lineno}) after its page: move the "
                                           "line up", lineno=tree.body[converter].lineno))
            if holder is not None:
                return [_Insertion(tree.body[converter].lineno - 1, b"", _SETUP),
                        _after(holder, lines, _PANEL, script),
                        _after(_tab_before_ours(group, tab), lines, _TAB, script)]
    raise _refuse(script, Text("no tab of its `with gr.Tabs():` makes `sid0`, RVC's voice list, beside which the "
                               "panel goes: give the voice list its name back, then run this again"))


def _tab_before_ours(group: ast.With, inference: ast.AST) -> ast.stmt:
    """RVC's Train tab, beside which ours is looked for; the last tab where there is none after the one of
    inference."""
    names = [statement for statement in group.body if statement.lineno > getattr(inference, "lineno", 0)
             and _opens(statement, *ANCHORS.tab) and _sets(statement, ANCHORS.experiment)]
    return names[0] if names else group.body[-1]


def _window_insertions(tree: ast.Module, lines: List[bytes], script: str) -> List[_Insertion]:
    """Just before the window is made, so in the `if __name__ == "__main__":` of the script."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and node in tree.body:
            made = next((statement for statement in node.body if _makes_window(statement)), None)
            if made is not None:
                before = _after(made, lines, _WINDOW, script)
                return [_Insertion(made.lineno - 1, before.indent, _WINDOW)]
    raise _refuse(script, Text("it has no `gui = GUI()` under its `if __name__ == \"__main__\":`, where RVC makes its "
                               "window: put the line back (`git diff -- {script}` shows what was changed), then run "
                               "this again", script=script))


def _makes_window(statement: ast.AST) -> bool:
    return _assigns(statement, "gui") and isinstance(statement.value, ast.Call) and getattr(
        statement.value.func, "id", None) == "GUI"


def _parse(source: bytes, script: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two: nested too deep
        line, reason = getattr(error, "lineno", None) or 0, getattr(error, "msg", None) or str(error)
        raise _refuse(script, Text("this Python cannot read its line {line} ({reason}): mend the line, or run this "
                                   "with the Python that runs RVC", line=line, reason=reason)) from error


class _WithoutOurs(ast.NodeTransformer):
    def visit_Try(self, node: ast.Try) -> Optional[ast.AST]:
        first = node.body[0]
        if isinstance(first, ast.ImportFrom) and [name.asname for name in first.names] == ["rvc_lora_window"]:
            return None
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Optional[ast.AST]:
        return None if node.name == "rvc_lora" else node

    def visit_Expr(self, node: ast.Expr) -> Optional[ast.AST]:
        return None if isinstance(node.value, ast.Call) and getattr(node.value.func, "id", None) == "rvc_lora" else node


# ---------------------------------------------------------------- in and out

def with_lines(source: bytes, script: str) -> bytes:
    """The script with our lines in it; what earlier versions of ours put in is replaced.

    Args:
        source: the script's bytes: any line endings, with or without a BOM, in the encoding that it declares.
        script: its name, for messages.

    Raises:
        UserError: there is no safe place for the lines, or earlier lines of ours were changed.
    """
    try:
        return _with_lines(without_lines(source, script), script)
    except RecursionError as error:
        raise _refuse(script, Text("an expression in it is nested too deep to be read: write it in several "
                                   "statements, then run this again")) from error


def _with_lines(plain: bytes, script: str) -> bytes:
    """`with_lines` for a script that has none of ours."""
    tree = _parse(plain, script)
    lines = _lines(plain)
    places = _window_insertions if script in WINDOWS else _insertions
    encoding = tokenize.detect_encoding(io.BytesIO(plain).readline)[0].replace("-sig", "")
    found = enumerate(places(tree, lines, script))
    for _, insertion in sorted(found, key=lambda one: (one[1].line, one[0]), reverse=True):
        _insert(lines, insertion, encoding)  # from the end; of two at one line, the one further in comes first
    done = b"".join(lines)
    # the script must be the same program but for our statements, and come back byte for byte
    if ast.dump(_WithoutOurs().visit(_parse(done, script))) != ast.dump(tree) or without_lines(done, script) != plain:
        raise _refuse(script, Text("its layout leaves no safe place for the lines"))
    return done


def without_lines(source: bytes, script: str) -> bytes:
    """The script without our lines; every other byte as it is.

    Raises:
        UserError: a marker is missing, or the lines between two of them are not those that were put in.
    """
    kept: List[bytes] = []
    inner: List[bytes] = []
    begun, noted = 0, b""  # the line of the open block's first marker, the checksum written there
    remedy = Text("Delete by hand what is left of RVC-LoRA's lines (each names rvc_lora or stands between its "
                  "markers), or restore the script (`git checkout -- {script}` drops every change in it); then run "
                  "this again", script=script)
    lines = _lines(source)
    for number, line in enumerate(lines, 1):
        begins, ends = _BEGIN.match(line), _END.match(line)
        if (begins and begun) or (ends and not begun):
            at = begun if begins else number
            raise _refuse(script, Text("the marker on line {at} has lost its other half. {remedy}", at=at,
                                       remedy=remedy))
        if begins:
            begun, noted, inner = number, begins.group(1) or b"", []
        elif ends:
            if noted.decode() != _checksum(inner):
                raise _refuse(script, Text("lines {begun} to {number}, which RVC-LoRA put in, were changed since. "
                                           "{remedy}", begun=begun, number=number, remedy=remedy))
            begun = 0
            if number == len(lines) and not _ending(line) and kept:
                kept[-1] = kept[-1][:-len(_ending(kept[-1])) or None]
        elif begun:
            inner.append(line)
        else:
            kept.append(line)
    if begun:
        raise _refuse(script, Text("the marker on line {begun} has lost its other half. {remedy}", begun=begun,
                                   remedy=remedy))
    plain = b"".join(kept)
    stray = _stray(plain)
    if stray:
        raise _refuse(script, Text("`{stray}` stands outside RVC-LoRA's markers. {remedy}", stray=stray, remedy=remedy))
    return plain


def _stray(plain: bytes) -> Optional[str]:
    """A line that uses the name rvc_lora, as far as the script can be read."""
    for line in _lines(plain):
        if re.match(rb"\s*(?:def rvc_lora\(|rvc_lora\(|rvc_lora =)", line):
            return line.strip().decode("utf-8", "backslashreplace")
    return None
