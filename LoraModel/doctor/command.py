"""`prepare_data.py --check`: the findings on the console, as JSON, and as a page."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from tqdm import tqdm

from ..files import check_file_place
from ..host import find_host
from ..messages import tr
from ..names import shown
from ..preparation.recordings import find_recordings
from .examine import USUAL_RATE, examine
from .page import write_report


def check(args: argparse.Namespace) -> int:
    """Look at the recordings and show what was found; nothing of them is changed. The exit code is 0 whatever it is.

    args: `preparation.options.options_of`'s.

    Raises:
        UserError: there is nothing to look at, or the page would take the place of a recording or cannot be there.
        OSError: the page cannot be written.
    """
    host = find_host(args.rvc_root)
    source = host.resolve(args.input_dir)
    wanted = args.sample_rate or (USUAL_RATE if host.is_checkout else 16000)
    without = host.result(args.output_dir) if args.output_dir else None
    page = Path(args.report) if args.report else Path(f"{source.resolve().name or 'recordings'}_check.html")
    found = find_recordings(source, without) if os.path.exists(str(page)) else None
    check_file_place(page, "--report", [*found.files, *(file for file, _ in found.broken)] if found else ())
    with tqdm(total=0, desc=tr("looking at the recordings"), file=sys.stderr) as bar:
        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        report = examine(source, wanted, without, progress)
    write_report(page, report)
    if args.json:
        print(json.dumps({**report.to_json(), "page": str(page)}, indent=1, ensure_ascii=False))
        return 0
    for line in report.lines():
        print(line)
    print(tr("a picture of each finding: {page}", page=shown(str(page))))
    return 0
