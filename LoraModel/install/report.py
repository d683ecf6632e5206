"""What the installer says: of a run, and what is there. Standard library only."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import List, Tuple

from .. import __version__
from ..messages import UserError, say
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
        say("nothing would change", "不会有任何改动")
        return
    if plan.changed:
        print(diff(plan))
    tell_skipped(plan)
    where = plan.folder.path
    if plan.folder_changes and plan.link:
        say(f"{where} would become a link to {plan.package}", f"{where} 将成为指向 {plan.package} 的链接")
    elif plan.folder_changes and plan.install:
        say(f"{where}: {len(plan.write)} files would be written, {len(plan.drop)} deleted",
            f"{where}：将写入 {len(plan.write)} 个文件，删除 {len(plan.drop)} 个文件")
    elif plan.folder_changes:
        say(f"{where}: what RVC-LoRA put there would be deleted ({len(plan.folder.own)} files)",
            f"{where}：将删除 RVC-LoRA 安装的内容（{len(plan.folder.own)} 个文件）")
    say("nothing was written (--dry-run)", "未写入任何内容（--dry-run）")


def tell_skipped(plan: Plan) -> None:
    """Why the realtime window has no lines of ours, where it has none."""
    for error in plan.skipped:
        say(f"note: {error.en}; the rest does not need it", f"提示：{error.zh}；其余部分不受影响")


def tell(plan: Plan) -> None:
    """What `plan` has done."""
    root = plan.checkout.root
    tell_skipped(plan)
    for name in plan.set_aside:
        say(f"you had changed {PACKAGE}/{name}: your version is now beside it, ending in .yours1 (2, ...)",
            f"您修改过 {PACKAGE}/{name}：您的版本保存在旁边，以 .yours1（2、……）结尾")
    if plan.install and plan.nothing_to_do:
        say(f"RVC-LoRA {__version__} is already installed in {root}: nothing changed",
            f"{root} 中已安装 RVC-LoRA {__version__}：未作改动")
    elif plan.install:
        say(f"RVC-LoRA {__version__} is installed in {root}: start RVC as always ({plan.script.name})",
            f"RVC-LoRA {__version__} 已安装到 {root}：请照常启动 RVC（{plan.script.name}）")
    elif plan.nothing_to_do:
        say(f"RVC-LoRA is not installed in {root}: nothing changed", f"{root} 中未安装 RVC-LoRA：未作改动")
    else:
        say(f"RVC-LoRA is uninstalled from {root}; adapters and training results were left where they are",
            f"已从 {root} 卸载 RVC-LoRA；适配器与训练结果均保留在原处")
        if plan.folder.kind == "copy" and plan.folder.strange + plan.folder.edited:
            kept = plan.folder.strange + plan.folder.edited
            say(f"kept in {plan.folder.path}, because they are yours or were changed by you: {', '.join(kept)}",
                f"{plan.folder.path} 中保留了属于您或被您修改过的文件：{'、'.join(kept)}")
        if plan.folder.kind == "source":
            say(f"{plan.folder.path} stays: it is the copy that this installer belongs to",
                f"{plan.folder.path} 保留：本安装程序属于该副本")


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
    say(f"RVC: {checkout.layout} layout, {checkout.root}", f"RVC：{checkout.layout} 布局，{checkout.root}")
    states = []
    for script in checkout.scripts:
        state, trouble = lines_in(script)
        if state == "no place" and script == checkout.script:
            state = "damaged"
        say(*{
            "none": (f"{script.name}: no lines of RVC-LoRA", f"{script.name}：没有 RVC-LoRA 的行"),
            "no place": (f"{script.name}: no lines of RVC-LoRA, and no place for them",
                         f"{script.name}：没有 RVC-LoRA 的行，也没有可插入的位置"),
            "there": (f"{script.name}: RVC-LoRA's lines are in place", f"{script.name}：RVC-LoRA 的行已就位"),
            "old": (f"{script.name}: RVC-LoRA's lines are there, but not as this version writes them",
                    f"{script.name}：有 RVC-LoRA 的行，但与本版本写入的不同"),
            "damaged": (f"{script.name}: RVC-LoRA's lines are damaged", f"{script.name}：RVC-LoRA 的行已损坏"),
        }[state])
        if trouble:
            print("  " + trouble)
        states.append(state)
    told = [state for state in states if state != "no place"]
    lines = told[0] if len(set(told)) == 1 else "damaged" if "damaged" in told else "old"
    if folder.kind == "copy":
        ours = installed_copy.files_of(source / PACKAGE)
        current = folder.state == "whole" and not folder.edited and set(folder.own) == set(ours) and all(
            checksum(path) in folder.known[name] for name, path in ours.items())
    else:
        current = folder.kind in ("link", "source") and (folder.path / "__init__.py").is_file()
    cut_off = folder.cut_off or any(webui_script.litter_of(script) for script in checkout.scripts)
    if folder.kind == "none":
        say(f"{PACKAGE}/: not there", f"{PACKAGE}/：不存在")
    elif folder.kind != "copy":
        say(f"{PACKAGE}/: {'a link to ' if folder.kind == 'link' else ''}{os.path.realpath(str(folder.path))}",
            f"{PACKAGE}/：{'链接到 ' if folder.kind == 'link' else ''}{os.path.realpath(str(folder.path))}")
    else:
        say(f"{PACKAGE}/: version {folder.version or '?'}, {len(folder.own)} files as installed, {len(folder.lacking)} "
            f"lacking, {len(folder.edited)} changed by you, {len(folder.strange)} yours",
            f"{PACKAGE}/：版本 {folder.version or '?'}，{len(folder.own)} 个文件完好，缺少 {len(folder.lacking)} 个，"
            f"被您修改 {len(folder.edited)} 个，您自己的 {len(folder.strange)} 个")
    if lines == "there" and current and not cut_off:
        say(f"=> RVC-LoRA {__version__} is installed", f"=> 已安装 RVC-LoRA {__version__}")
    elif lines == "none" and not cut_off and (folder.bare or folder.kind == "source"):
        say("=> RVC-LoRA is not installed", "=> 未安装 RVC-LoRA")
    elif lines == "damaged":
        say("=> RVC-LoRA's lines need your hand, as said above", "=> 需要您按上面的说明手动处理 RVC-LoRA 的行")
    elif cut_off or lines == "none" or folder.bare:
        say("=> an installation or removal was cut off: run the installer again to finish it, or with --uninstall to "
            "take all of it out", "=> 安装或卸载曾被中断：请重新运行安装程序以完成安装，或使用 --uninstall 全部移除")
    else:
        say("=> another version of RVC-LoRA is installed: run the installer again to update it",
            "=> 已安装另一版本的 RVC-LoRA：请重新运行安装程序进行更新")
    return lines == "there" and current and not cut_off
