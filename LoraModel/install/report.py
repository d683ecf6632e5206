"""What the installer says: of a run, and what is there. Standard library only."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import List, Tuple

from .. import __version__
from ..messages import Text, UserError, listing, say
from . import installed_copy, webui_script
from .checkout import PACKAGE, Checkout
from .installed_copy import Folder, checksum
from .plan import Plan


def diff(plan: Plan) -> str:
    """The scripts' changes, without the line endings' differences."""
    found: List[str] = []
    for change in plan.changed:
        name = change.script.name
        old, new = ([line.decode("utf-8", "backslashreplace") for line in text.splitlines()]
                    for text in (change.before, change.after))
        found += difflib.unified_diff(old, new, f"a/{name}", f"b/{name}", lineterm="")
    return "\n".join(found)


def tell_dry(plan: Plan) -> None:
    """What `plan` would change; nothing is changed."""
    if plan.nothing_to_do:
        say("nothing would change")
        return
    if plan.changed:
        print(diff(plan))
    tell_skipped(plan)
    where = plan.folder.path
    if plan.folder_changes and plan.link:
        say("{where} would become a link to {package}", where=where, package=plan.package)
    elif plan.folder_changes and plan.install:
        say("{where}: {count} files would be written, {count_2} deleted", where=where, count=len(plan.write),
            count_2=len(plan.drop))
    elif plan.folder_changes:
        say("{where}: what RVC-LoRA put there would be deleted ({count} files)", where=where,
            count=len(plan.folder.own))
    say("nothing was written (--dry-run)")


def tell_skipped(plan: Plan) -> None:
    """Why the realtime window has no lines of ours, where it has none."""
    for error in plan.skipped:
        say("note: {error}; the rest does not need it", error=error)


def tell(plan: Plan) -> None:
    """What `plan` has done."""
    root = plan.checkout.root
    tell_skipped(plan)
    for name in plan.set_aside:
        say("you had changed {package}/{name}: your version is now beside it, ending in .yours1 (2, ...)",
            package=PACKAGE, name=name)
    if plan.install and plan.nothing_to_do:
        say("RVC-LoRA {version} is already installed in {root}: nothing changed", version=__version__, root=root)
    elif plan.install:
        say("RVC-LoRA {version} is installed in {root}: start RVC as always ({script_name})", version=__version__,
            root=root, script_name=plan.script.name)
    elif plan.nothing_to_do:
        say("RVC-LoRA is not installed in {root}: nothing changed", root=root)
    else:
        say("RVC-LoRA is uninstalled from {root}; adapters and training results were left where they are", root=root)
        if plan.folder.kind == "copy" and plan.folder.strange + plan.folder.edited:
            kept = plan.folder.strange + plan.folder.edited
            say("kept in {path}, because they are yours or were changed by you: {kept}", path=plan.folder.path,
                kept=listing(kept))
        if plan.folder.kind == "source":
            say("{path} stays: it is the copy that this installer belongs to", path=plan.folder.path)


def lines_in(script: Path) -> Tuple[str, str]:
    """What there is of our lines in a script: "none", "there", "old" or "damaged", and what is wrong where they are.
    "no place": a realtime window that was changed so much that they cannot be put in."""
    text = script.read_bytes()
    try:
        plain = webui_script.without_lines(text, script.name)
    except UserError as error:
        return "damaged", str(error)
    try:
        there = webui_script.with_lines(text, script.name) == text
    except UserError as error:
        return "no place" if plain == text else "damaged", str(error)
    return "there" if there else "none" if plain == text else "old", ""


def tell_status(checkout: Checkout, source: Path) -> bool:
    """Print what is there; return whether all of it is in place and of this version."""
    folder = Folder(checkout.folder, checkout.is_source(source))
    say("RVC: {layout} layout, {checkout_root}", layout=checkout.layout, checkout_root=checkout.root)
    states = []
    for script in checkout.scripts:
        state, trouble = lines_in(script)
        if state == "no place" and script == checkout.script:
            state = "damaged"
        say({
            "none": Text("{script_name}: no lines of RVC-LoRA", script_name=script.name),
            "no place": Text("{script_name}: no lines of RVC-LoRA, and no place for them", script_name=script.name),
            "there": Text("{script_name}: RVC-LoRA's lines are in place", script_name=script.name),
            "old": Text("{script_name}: RVC-LoRA's lines are there, but not as this version writes them",
                        script_name=script.name),
            "damaged": Text("{script_name}: RVC-LoRA's lines are damaged", script_name=script.name),
        }[state])
        if trouble:
            print("  " + trouble)
        states.append(state)
    known = [state for state in states if state != "no place"]
    lines = known[0] if len(set(known)) == 1 else "damaged" if "damaged" in known else "old"
    if folder.kind == "copy":
        ours = installed_copy.files_of(source / PACKAGE)
        current = folder.state == "whole" and not folder.edited and set(folder.own) == set(ours) and all(
            checksum(path) in folder.known[name] for name, path in ours.items())
    else:
        current = folder.kind in ("link", "source") and (folder.path / "__init__.py").is_file()
    cut_off = folder.cut_off or any(webui_script.litter_of(script) for script in checkout.scripts)
    if folder.kind == "none":
        say("{package}/: not there", package=PACKAGE)
    elif folder.kind != "copy":
        at = os.path.realpath(str(folder.path))
        if folder.kind == "link":
            say("{package}/: a link to {path}", package=PACKAGE, path=at)
        else:
            say("{package}/: {path}", package=PACKAGE, path=at)
    else:
        say("{package}/: version {version}, {count} files as installed, {count_2} lacking, {count_3} changed by you, "
            "{count_4} yours",
            package=PACKAGE, version=folder.version or "?", count=len(folder.own), count_2=len(folder.lacking),
            count_3=len(folder.edited), count_4=len(folder.strange))
    if lines == "there" and current and not cut_off:
        say("=> RVC-LoRA {version} is installed", version=__version__)
    elif lines == "none" and not cut_off and (folder.bare or folder.kind == "source"):
        say("=> RVC-LoRA is not installed")
    elif lines == "damaged":
        say("=> RVC-LoRA's lines have to be repaired by hand, as described above")
    elif cut_off or lines == "none" or folder.bare:
        say("=> an installation or removal was cut off: run the installer again to finish it, or with --uninstall to "
            "remove all of it")
    else:
        say("=> another version of RVC-LoRA is installed: run the installer again to update it")
    return lines == "there" and current and not cut_off
