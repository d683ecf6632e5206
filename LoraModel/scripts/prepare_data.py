"""Make an experiment folder for training from a folder of recordings.

python scripts/prepare_data.py --input_dir RAW --output_dir logs/NAME

In an RVC checkout its own scripts do the work; without one a stand-in does. The steps are in `LoraModel/preparation/`.
`--check` prepares nothing: it looks at the recordings and says what will harm the voice (`LoraModel/doctor/`).
"""

from __future__ import annotations

# Import it by its proper name, so that Ctrl-C while PyTorch loads is one line, too
if __name__ == "__main__":
    import pathlib
    import sys

    if not __package__:  # run as a script
        sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])
    from LoraModel.commands import start

    sys.exit(start("LoraModel.scripts.prepare_data"))

import sys
from pathlib import Path
from typing import Optional

from LoraModel.host.compact_index import compact, is_compact
from LoraModel.host.index import find_index
from LoraModel.messages import UserError, tr
from LoraModel.preparation.checks import too_few
from LoraModel.preparation.options import options_of, plan_from
from LoraModel.preparation.steps import prepare


def make_compact(index: Path) -> None:
    """Make an index compact; one that is too small for that stays as it is, and a line says so."""
    try:
        if not is_compact(index):
            compact(index)
    except UserError as error:
        print(tr("note: ") + str(error), file=sys.stderr)


def main(argv: Optional[list] = None) -> int:
    args = options_of(argv)
    if args.check:
        from LoraModel.doctor.command import check

        return check(args)
    host, plan = plan_from(args)
    count = prepare(host, plan)
    if args.compact_index:
        make_compact(find_index(plan.experiment))
    few = too_few(plan.experiment, count)
    of = tr(" of speaker {speaker}", speaker=plan.speaker) if plan.speaker else ""
    print(few or tr("{experiment}: {count} slices{of}, ready for train_lora.py --data_dir", experiment=plan.experiment,
                    count=count, of=of))
    return 0
