"""python install_into_rvc.py --rvc_root PATH: puts RVC-LoRA into an RVC checkout; also --uninstall, --status,
--dry-run, --link.

Standard library only (and LoraModel/install/, files of LoraModel/ that are the same: messages.py, commands.py,
files.py, ...); Windows, Linux, macOS.

What it does to the checkout: the folder LoraModel/, and a few marked lines in the WebUI script (infer-web.py or
webui.py). What makes an interrupted run mend itself:
- everything is read and checked before the first byte is written; a refusal changes nothing.
- each file is written under another name and renamed; the script goes from one whole state to the other in one step.
- LoraModel/installed.json is written before the first file and after the last: it names every file that may be ours,
  with its checksums, so that the next run knows what to finish or to take away, and never touches a file of the user's.
"""

import sys
from pathlib import Path
from typing import List, Optional

sys.dont_write_bytecode = True
SOURCE = Path(__file__).resolve().parent
sys.path.insert(0, str(SOURCE))

from LoraModel.commands import Parser, exit_codes  # noqa: E402
from LoraModel.install import checkout as checkouts  # noqa: E402
from LoraModel.install import report, webui_script  # noqa: E402, F401
from LoraModel.install.packages import lacking_packages, python_for, tell_packages  # noqa: E402
from LoraModel.install.plan import Plan  # noqa: E402
from LoraModel.messages import UserError, cli, disk_full, tr  # noqa: E402


def find_checkout(named: Optional[str]) -> checkouts.Checkout:
    """The checkout that is meant, as seen from this copy of RVC-LoRA."""
    return checkouts.find_checkout(named, SOURCE)


def main(argv: Optional[List[str]] = None) -> int:
    parser = Parser(description=tr("Put RVC-LoRA into an RVC checkout."),
                    epilog=exit_codes(tr("1 with --status: something is not in place; ")))
    parser.add_argument("--rvc_root", "--rvc-root", metavar="PATH",
                        help=tr("the RVC checkout (default: RVC_ROOT, or the folder above)"))
    parser.add_argument("--python", metavar="PATH", help=tr("the Python that runs RVC, whose packages are checked "
                                                            "(default: the one in RVC's folder, else this one)"))
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--uninstall", action="store_true",
                      help=tr("remove everything that was installed; adapters stay"))
    what.add_argument("--status", action="store_true",
                      help=tr("report what is installed; exit code 0 if all is in place, else 1"))
    what.add_argument("--link", action="store_true", help=tr("link LoraModel/ instead of copying it (development)"))
    parser.add_argument("--dry-run", action="store_true",
                        help=tr("print what would change, change nothing"))
    options = parser.parse_args(argv)
    try:
        checkout = find_checkout(options.rvc_root)
        python = python_for(checkout, options.python)
        if options.status:
            whole = report.tell_status(checkout, SOURCE)
            tell_packages(python, lacking_packages(python, checkout.root))
            return 0 if whole else 1
        lacking = [] if options.uninstall else lacking_packages(python, checkout.root)
        with checkouts.alone_in(checkout.root):
            plan = Plan(checkout, SOURCE, not options.uninstall, options.link)
            if options.dry_run:
                report.tell_dry(plan)
            else:
                if not plan.nothing_to_do:
                    plan.run()
                report.tell(plan)
        if not options.uninstall:
            tell_packages(python, lacking)
    except OSError as error:
        if disk_full(error):
            raise
        raise UserError("{error}. If RVC is running, close it; then run this again: it continues where this stopped",
                        error=error) from error
    return 0


if __name__ == "__main__":
    sys.exit(cli(main,
                 stopped=UserError("interrupted: run this again to continue, or with --uninstall to remove "
                                   "everything")))
