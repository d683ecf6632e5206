"""Make an experiment folder for training from a folder of recordings.

python scripts/prepare_data.py --input_dir RAW --output_dir logs/NAME

In an RVC checkout its own scripts do the work; without one a stand-in does. The steps are in `LoraModel/preparation/`.
"""

from __future__ import annotations

if __package__ in (None, ""):
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])

import sys
from typing import Optional

from LoraModel import commands
from LoraModel.messages import tr
from LoraModel.preparation.checks import too_few
from LoraModel.preparation.options import parser, plan_from
from LoraModel.preparation.steps import prepare


def main(argv: Optional[list] = None) -> int:
    host, plan = plan_from(parser().parse_args(argv))
    count = prepare(host, plan)
    few = too_few(plan.experiment, count)
    of = tr(" of speaker {speaker}", speaker=plan.speaker) if plan.speaker else ""
    print(few or tr("{experiment}: {count} slices{of}, ready for train_lora.py --data_dir", experiment=plan.experiment,
                    count=count, of=of))
    return 0


if __name__ == "__main__":
    sys.exit(commands.run(main))
