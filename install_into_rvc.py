"""python install_into_rvc.py --rvc_root PATH: puts RVC-LoRA into an RVC checkout; also --uninstall, --status, --dry-run, --link.

Standard library only (and files of LoraModel/ that are the same: messages.py, files.py, host/webui_script.py, host/installed_copy.py);
Windows, Linux, macOS.

What it does to the checkout: the folder LoraModel/, and a few marked lines in the WebUI script (infer-web.py or webui.py).
What makes an interrupted run mend itself:
- everything is read and checked before the first byte is written; a refusal changes nothing.
- each file is written under another name and renamed; the script goes from one whole state to the other in one step.
- LoraModel/installed.json is written before the first file and after the last: it names every file that may be ours, with its
  checksums, so that the next run knows what to finish or to take away, and never touches a file of the user's.
"""

import argparse
import difflib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

sys.dont_write_bytecode = True
SOURCE = Path(__file__).resolve().parent
sys.path.insert(0, str(SOURCE))

from LoraModel import __version__  # noqa: E402
from LoraModel.files import atomic_write  # noqa: E402
from LoraModel.messages import UserError, cli, disk_full, tr  # noqa: E402


def _by_path(name: str, path: Path):
    """A module by its path: importing it by its name would bring its whole package, and torch with it."""
    spec = importlib.util.spec_from_file_location(name, str(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PACKAGE = "LoraModel"
webui_script = _by_path("rvc_lora_webui_script", SOURCE / PACKAGE / "host" / "webui_script.py")
installed_copy = _by_path("rvc_lora_installed_copy", SOURCE / PACKAGE / "host" / "installed_copy.py")
Folder, checksum = installed_copy.Folder, installed_copy.checksum

NEEDS = {"torch": "torch", "gradio": "gradio", "numpy": "numpy", "scipy": "scipy", "librosa": "librosa", "faiss": "faiss-cpu",
         "soundfile": "soundfile", "parselmouth": "praat-parselmouth", "safetensors": "safetensors", "tensorboard": "tensorboard",
         "tqdm": "tqdm"}
RVCS_OWN = ("torch", "gradio")  # never named to pip: RVC runs with builds and versions of its own


def say(en: str, zh: str) -> None:
    print(tr(en, zh), flush=True)


# ---------------------------------------------------------------- the checkout

class Checkout(NamedTuple):
    layout: str
    root: Path
    script: Path

    @property
    def folder(self) -> Path:
        return self.root / PACKAGE

    @property
    def is_source(self) -> bool:
        """Whether this very copy of RVC-LoRA was unpacked right into the checkout."""
        return self.root.resolve() == SOURCE


def find_checkout(named: Optional[str]) -> Checkout:
    """The checkout that is meant: `named`, else the environment's RVC_ROOT, else this folder or the one above it."""
    named = named or os.environ.get("RVC_ROOT")
    candidates = [Path(named).expanduser().absolute()] if named else [SOURCE, SOURCE.parent]
    for root in candidates:
        found = webui_script.layout_of(root)
        if found is None:
            continue
        if not found[1].is_file():
            raise UserError(f"{root} is an RVC checkout without its WebUI script {found[1].name}: restore it, then run this again",
                            f"{root} 中缺少 RVC 的 WebUI 脚本 {found[1].name}：请恢复它，然后重新运行")
        return Checkout(found[0], root, found[1])
    raise UserError(f"{candidates[-1]} is no RVC checkout: give --rvc_root the folder that holds infer-web.py or webui.py",
                    f"{candidates[-1]} 不是 RVC 目录：请用 --rvc_root 指定包含 infer-web.py 或 webui.py 的文件夹")


# ---------------------------------------------------------------- what is to be done

class Plan:
    """What one run would do; computing it changes nothing, and refuses (UserError) what cannot be done whole."""

    def __init__(self, checkout: Checkout, install: bool, link: bool):
        self.checkout, self.install, self.link = checkout, install, link
        self.script, self.folder = checkout.script, Folder(checkout.folder, checkout.is_source)
        self.before = self.script.read_bytes()
        change = webui_script.with_lines if install else webui_script.without_lines
        self.after = change(self.before, self.script.name)
        self.litter = webui_script.litter_of(self.script)
        self.write: Dict[str, Path] = {}
        self.sums: Dict[str, str] = {}
        self.set_aside: List[str] = []
        self.drop: List[str] = []
        if link and checkout.is_source:
            raise UserError(f"RVC-LoRA already lies in {checkout.root} itself: there is nothing to link",
                            f"RVC-LoRA 已位于 {checkout.root} 中：无需链接")
        if link and self.folder.kind == "copy" and self.folder.strange + self.folder.edited:
            raise self._refuse_for(self.folder.strange + self.folder.edited)
        if self.folder.kind == "link" and checkout.folder.exists() and not (checkout.folder / "host" / "webui_script.py").is_file():
            raise UserError(f"{checkout.folder} is a link to something that is not RVC-LoRA: move it away, then run this again",
                            f"{checkout.folder} 是指向其他内容（并非 RVC-LoRA）的链接：请移走它，然后重新运行")
        if self.copying:
            self._compare()
        self._check_rights()

    @property
    def copying(self) -> bool:
        return self.install and not self.link and self.folder.kind != "source"

    @property
    def folder_changes(self) -> bool:
        if self.folder.kind == "source":
            return False
        if not self.install:
            return not self.folder.bare
        if self.link:
            return self.folder.kind != "link" or Path(os.path.realpath(str(self.folder.path))) != SOURCE / PACKAGE
        return bool(self.folder.kind != "copy" or self.write or self.drop or self.folder.state != "whole")

    @property
    def nothing_to_do(self) -> bool:
        return self.before == self.after and not self.folder_changes and not self.litter

    def _refuse_for(self, names: List[str]) -> UserError:
        shown = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
        return UserError(f"{self.folder.path} holds files that this installer did not put there ({shown}): move them away, then run this again",
                         f"{self.folder.path} 中有并非由本程序安装的文件（{shown}）：请移走它们，然后重新运行")

    def _compare(self) -> None:
        folder = self.folder
        ours = installed_copy.files_of(SOURCE / PACKAGE)
        self.sums = {name: checksum(path) for name, path in ours.items()}
        there = {name: checksum(folder.path / name) for name in [*folder.own, *folder.edited, *folder.strange] if name in ours}
        self.write = {name: path for name, path in ours.items() if there.get(name) != self.sums[name]}
        foreign = [name for name in folder.strange if name in self.write]
        if foreign:
            raise self._refuse_for(foreign)
        self.set_aside = [name for name in folder.edited if name in self.write]
        self.drop = [name for name in folder.own if name not in ours]

    def _check_rights(self) -> None:
        changed = [self.script] if self.before != self.after else []
        for path in changed + ([self.checkout.root] if changed or self.folder_changes else []):
            if not path.stat().st_mode & 0o222 or not os.access(str(path), os.W_OK):
                raise UserError(f"{path} is read-only: allow writing to it, then run this again; nothing was changed",
                                f"{path} 为只读：请允许写入后重新运行；未作任何改动")

    # -- doing it

    def run(self) -> None:
        """Install: the folder first, then the lines. Uninstall: the lines first. RVC works at every moment between."""
        if self.install:
            self._folder_in()
            self._script()
            if self.copying:
                self.folder.manifest("whole", __version__, {name: [one] for name, one in self.sums.items()})
        else:
            self._script()
            if self.folder.kind == "link":
                self.folder.path.unlink()
            elif self.folder.kind == "copy":
                self.folder.delete_all()

    def _script(self) -> None:
        if self.before != self.after:
            atomic_write(self.script, self.after)
        for path in self.litter:
            path.unlink()

    def _folder_in(self) -> None:
        folder = self.folder
        if not self.folder_changes:
            return
        if folder.kind == "link":
            folder.path.unlink()
        if self.link:
            if folder.kind == "copy":
                folder.delete_all()
            try:
                os.symlink(str(SOURCE / PACKAGE), str(folder.path), target_is_directory=True)
            except (OSError, NotImplementedError) as error:
                raise UserError(f"no link could be made ({error}): on Windows turn Developer Mode on, or install without --link",
                                f"无法创建链接（{error}）：在 Windows 上请开启开发者模式，或不使用 --link 安装")
            return
        folder.path.mkdir(exist_ok=True)
        known = {name: sorted({*folder.known.get(name, []), *([self.sums[name]] if name in self.sums else [])})
                 for name in {*folder.known, *self.sums}}
        folder.manifest("installing", __version__, known)
        for name in self.set_aside:
            os.replace(str(folder.path / name), str(self.aside(name)))
        for name, source in self.write.items():
            atomic_write(folder.path / name, source.read_bytes())
        folder.delete(self.drop + [name for name in folder.waste if name.endswith(".tmp")])

    def aside(self, name: str) -> Path:
        """Where a file of ours that the user has changed is kept when a new version takes its place."""
        count = 1
        while (self.folder.path / f"{name}.yours{count}").exists():
            count += 1
        return self.folder.path / f"{name}.yours{count}"

    # -- telling it

    def diff(self) -> str:
        """The script's change, without the line endings' differences."""
        name = self.script.name
        old, new = ([line.decode("utf-8", "backslashreplace") for line in text.splitlines()] for text in (self.before, self.after))
        return "\n".join(difflib.unified_diff(old, new, f"a/{name}", f"b/{name}", lineterm=""))

    def tell_dry(self) -> None:
        if self.nothing_to_do:
            say("nothing would change", "不会有任何改动")
            return
        if self.before != self.after:
            print(self.diff())
        where = self.folder.path
        if self.folder_changes and self.link:
            say(f"{where} would become a link to {SOURCE / PACKAGE}", f"{where} 将成为指向 {SOURCE / PACKAGE} 的链接")
        elif self.folder_changes and self.install:
            say(f"{where}: {len(self.write)} files would be written, {len(self.drop)} deleted",
                f"{where}：将写入 {len(self.write)} 个文件，删除 {len(self.drop)} 个文件")
        elif self.folder_changes:
            say(f"{where}: what RVC-LoRA put there would be deleted ({len(self.folder.own)} files)",
                f"{where}：将删除 RVC-LoRA 安装的内容（{len(self.folder.own)} 个文件）")
        say("nothing was written (--dry-run)", "未写入任何内容（--dry-run）")

    def tell(self) -> None:
        root = self.checkout.root
        for name in self.set_aside:
            say(f"you had changed {PACKAGE}/{name}: your version is now beside it, ending in .yours1 (2, ...)",
                f"您修改过 {PACKAGE}/{name}：您的版本保存在旁边，以 .yours1（2、……）结尾")
        if self.install and self.nothing_to_do:
            say(f"RVC-LoRA {__version__} is already installed in {root}: nothing changed", f"{root} 中已安装 RVC-LoRA {__version__}：未作改动")
        elif self.install:
            say(f"RVC-LoRA {__version__} is installed in {root}: start RVC as always ({self.script.name})",
                f"RVC-LoRA {__version__} 已安装到 {root}：请照常启动 RVC（{self.script.name}）")
        elif self.nothing_to_do:
            say(f"RVC-LoRA is not installed in {root}: nothing changed", f"{root} 中未安装 RVC-LoRA：未作改动")
        else:
            say(f"RVC-LoRA is uninstalled from {root}; adapters and training results were left where they are",
                f"已从 {root} 卸载 RVC-LoRA；适配器与训练结果均保留在原处")
            if self.folder.kind == "copy" and self.folder.strange + self.folder.edited:
                kept = self.folder.strange + self.folder.edited
                say(f"kept in {self.folder.path}, because they are yours or were changed by you: {', '.join(kept)}",
                    f"{self.folder.path} 中保留了属于您或被您修改过的文件：{'、'.join(kept)}")
            if self.folder.kind == "source":
                say(f"{self.folder.path} stays: it is the copy that this installer belongs to", f"{self.folder.path} 保留：本安装程序属于该副本")


# ---------------------------------------------------------------- Python packages

def python_for(checkout: Checkout, named: Optional[str]) -> str:
    """The Python that runs RVC: `named`, else the one inside the checkout, else the one that runs this."""
    places = (".venv/bin/python", "venv/bin/python")
    if os.name == "nt":
        places = ("runtime/python.exe", ".venv/Scripts/python.exe", "venv/Scripts/python.exe")
    inside = [str(checkout.root / place) for place in places if (checkout.root / place).is_file()]
    return named or (inside[0] if inside else sys.executable)


def lacking_packages(python: str, root: Path) -> List[str]:
    """Names to import that `python` does not find."""
    code = "import importlib.util, sys; print(' '.join(['found:'] + [n for n in sys.argv[1:] if importlib.util.find_spec(n) is None]))"
    try:
        done = subprocess.run([python, "-c", code, *NEEDS], cwd=str(root), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        told = done.stdout.decode("utf-8", "replace").split("found:")
    except (OSError, subprocess.TimeoutExpired) as error:
        told = [str(error)]
    if len(told) != 2:
        raise UserError(f"{python} does not run as a Python ({told[0].strip()[-200:]}): give --python the one that runs RVC",
                        f"无法运行 {python}（{told[0].strip()[-200:]}）：请用 --python 指定运行 RVC 的 Python")
    return told[1].split()


def tell_packages(python: str, lacking: List[str]) -> None:
    own = [name for name in lacking if name in RVCS_OWN]
    if own:
        say(f"Python packages: {python} lacks {', '.join(own)}, without which RVC itself does not run: "
            "give --python the one that runs RVC, or install RVC's own requirements into it first",
            f"Python 依赖：{python} 缺少 {'、'.join(own)}，RVC 本身也无法运行：请用 --python 指定运行 RVC 的 Python，或先为其安装 RVC 的依赖")
    others = [NEEDS[name] for name in lacking if name not in RVCS_OWN]
    if others:
        command = " ".join([f'"{python}"' if " " in python else python, "-m pip install", *others])
        say(f"Python packages: run this once: {command}", f"Python 依赖：请运行一次：{command}")
    if not lacking:
        say(f"Python packages: all there ({python})", f"Python 依赖：齐全（{python}）")


# ---------------------------------------------------------------- the command line

def tell_status(checkout: Checkout) -> bool:
    """Print what is there; return whether all of it is in place and of this version."""
    script, folder = checkout.script, Folder(checkout.folder, checkout.is_source)
    say(f"RVC: {checkout.layout} layout, {checkout.root}", f"RVC：{checkout.layout} 布局，{checkout.root}")
    source = script.read_bytes()
    lines, trouble = "damaged", ""
    try:
        plain = webui_script.without_lines(source, script.name)
        lines = "none" if plain == source else "old"
        if webui_script.with_lines(source, script.name) == source:
            lines = "there"
    except UserError as error:
        trouble = str(error)
    say(*{
        "none": (f"{script.name}: no lines of RVC-LoRA", f"{script.name}：没有 RVC-LoRA 的行"),
        "there": (f"{script.name}: RVC-LoRA's lines are in place", f"{script.name}：RVC-LoRA 的行已就位"),
        "old": (f"{script.name}: RVC-LoRA's lines are there, but not as this version writes them",
                f"{script.name}：有 RVC-LoRA 的行，但与本版本写入的不同"),
        "damaged": (f"{script.name}: RVC-LoRA's lines are damaged", f"{script.name}：RVC-LoRA 的行已损坏"),
    }[lines])
    if trouble:
        print("  " + trouble)
    if folder.kind == "copy":
        ours = installed_copy.files_of(SOURCE / PACKAGE)
        current = folder.state == "whole" and not folder.edited and set(folder.own) == set(ours) and all(
            checksum(path) in folder.known[name] for name, path in ours.items())
    else:
        current = folder.kind in ("link", "source") and (folder.path / "__init__.py").is_file()
    cut_off = folder.cut_off or bool(webui_script.litter_of(script))
    if folder.kind == "none":
        say(f"{PACKAGE}/: not there", f"{PACKAGE}/：不存在")
    elif folder.kind != "copy":
        say(f"{PACKAGE}/: {'a link to ' if folder.kind == 'link' else ''}{os.path.realpath(str(folder.path))}",
            f"{PACKAGE}/：{'链接到 ' if folder.kind == 'link' else ''}{os.path.realpath(str(folder.path))}")
    else:
        say(f"{PACKAGE}/: version {folder.version or '?'}, {len(folder.own)} files as installed, {len(folder.lacking)} lacking, "
            f"{len(folder.edited)} changed by you, {len(folder.strange)} yours",
            f"{PACKAGE}/：版本 {folder.version or '?'}，{len(folder.own)} 个文件完好，缺少 {len(folder.lacking)} 个，"
            f"被您修改 {len(folder.edited)} 个，您自己的 {len(folder.strange)} 个")
    if lines == "there" and current and not cut_off:
        say(f"=> RVC-LoRA {__version__} is installed", f"=> 已安装 RVC-LoRA {__version__}")
    elif lines == "none" and not cut_off and (folder.bare or folder.kind == "source"):
        say("=> RVC-LoRA is not installed", "=> 未安装 RVC-LoRA")
    elif lines == "damaged":
        say("=> RVC-LoRA's lines need your hand, as said above", "=> 需要您按上面的说明手动处理 RVC-LoRA 的行")
    elif cut_off or lines == "none" or folder.bare:
        say("=> an installation or removal was cut off: run the installer again to finish it, or with --uninstall to take all of it out",
            "=> 安装或卸载曾被中断：请重新运行安装程序以完成安装，或使用 --uninstall 全部移除")
    else:
        say("=> another version of RVC-LoRA is installed: run the installer again to update it",
            "=> 已安装另一版本的 RVC-LoRA：请重新运行安装程序进行更新")
    return lines == "there" and current and not cut_off


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=tr("Put RVC-LoRA into an RVC checkout.", "将 RVC-LoRA 安装到 RVC 目录。"))
    parser.add_argument("--rvc_root", "--rvc-root", metavar="PATH", help=tr("the RVC checkout (default: RVC_ROOT, or the folder above)",
                                                                            "RVC 目录（默认：RVC_ROOT，或上一级文件夹）"))
    parser.add_argument("--python", metavar="PATH", help=tr("the Python that runs RVC, whose packages are checked",
                                                            "运行 RVC 的 Python，用于检查依赖"))
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--uninstall", action="store_true", help=tr("take everything out again; adapters stay", "全部移除；适配器保留"))
    what.add_argument("--status", action="store_true", help=tr("say what is there; exit code 0 if all is in place, else 1",
                                                               "显示当前状态；全部就位时退出码为 0，否则为 1"))
    what.add_argument("--link", action="store_true", help=tr("link LoraModel/ instead of copying it (development)",
                                                             "以链接代替复制 LoraModel/（开发用）"))
    parser.add_argument("--dry-run", action="store_true", help=tr("print what would change, change nothing", "只显示将要进行的改动"))
    options = parser.parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        checkout = find_checkout(options.rvc_root)
        python = python_for(checkout, options.python)
        if options.status:
            whole = tell_status(checkout)
            tell_packages(python, lacking_packages(python, checkout.root))
            return 0 if whole else 1
        lacking = [] if options.uninstall else lacking_packages(python, checkout.root)
        plan = Plan(checkout, not options.uninstall, options.link)
        if options.dry_run:
            plan.tell_dry()
        else:
            if not plan.nothing_to_do:
                plan.run()
            plan.tell()
        if not options.uninstall:
            tell_packages(python, lacking)
    except OSError as error:
        if disk_full(error):
            raise
        raise UserError(f"{error}. If RVC is running, close it; then run this again: it takes up where this stopped",
                        f"{error}。如果 RVC 正在运行，请先关闭它；然后重新运行，即可从中断处继续") from error
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
