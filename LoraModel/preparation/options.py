"""The options of preparing, as the command and the page's process take them, checked and made into a plan."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from .. import commands
from ..files import check_folder_place
from ..host import Host, find_host, preprocess
from ..host.pipeline import default_f0_method
from ..messages import UserError, tr
from ..names import MOST_BYTES
from .fingerprint import Settings
from .steps import Plan

DEMO_CONFIG = Path(__file__).resolve().parents[1] / "demo" / "base" / "config.json"
MOST_WORKERS, MOST_SPEAKER = 1024, 1_000_000


def parser() -> argparse.ArgumentParser:
    p = commands.Parser(prog="prepare_data.py", description=tr("Make an experiment folder (slices, pitch, features, "
                                                               "index, filelist) from a folder of recordings."))
    p.add_argument("--input_dir", required=True, type=commands.path, help=tr(
        "folder of recordings of one voice (its subfolders too), or one recording"))
    p.add_argument("--output_dir", type=commands.path, help=tr(
        "the experiment folder, logs/NAME (a relative one lies inside the checkout); required, except with --check"))
    p.add_argument("--version", choices=("v1", "v2"), default="v2", help=tr("of the base"))
    p.add_argument("--sample_rate", type=commands.rate, help=tr("sample rate of the base: 32k, 40k, 48k, … (default: "
                                                                "40k; without a checkout the demo's 16k)"))
    p.add_argument("--f0_method", help=tr("how pitch is found (default: rmvpe where its model is there, else pm)"))
    p.add_argument("--no_f0", action="store_true", help=tr("for a base without pitch"))
    p.add_argument("--config_json", type=commands.path, help=tr("config.json of a custom base (default: RVC's own for "
                                                                "this version and rate)"))
    p.add_argument("--speaker", type=commands.whole(0, MOST_SPEAKER), default=0, help=tr(
        "row of the speaker table that the filelist names"))
    p.add_argument("--workers", type=commands.whole(1, MOST_WORKERS), default=min(os.cpu_count() or 1, 8), help=tr(
        "processes of RVC's scripts"))
    p.add_argument("--compact_index", action="store_true", help=tr("make the index a tenth of its size; RVC reads it "
                                                                   "as before"))
    p.add_argument("--check", action="store_true", help=tr("only look at the recordings and say what will harm the "
                                                           "voice; nothing is prepared or changed"))
    p.add_argument("--report", type=commands.path, help=tr("with --check: the HTML page with a picture of each finding "
                                                           "(default: NAME_check.html in the working folder)"))
    p.add_argument("--json", action="store_true", help=tr("with --check: write the findings as JSON to standard "
                                                          "output"))
    commands.add_rvc_root(p)
    return p


def options_of(argv: Optional[List[str]]) -> argparse.Namespace:
    """The options of a command line.

    Raises:
        UserError: one is unknown, missing, or without the one that it belongs to.
    """
    p = parser()
    args = p.parse_args(argv)
    if args.output_dir is None and not args.check:
        p.error("the following arguments are required: --output_dir")
    for key in ("report", "json"):
        if getattr(args, key) and not args.check:
            raise UserError("--{key} belongs to --check: give both, or neither", key=key)
    return args


def plan_from(args: argparse.Namespace) -> Tuple[Host, Plan]:
    """Options -> what `steps.prepare` takes. Says on standard error where features will be the stand-in's.

    Raises:
        UserError: something cannot be.
    """
    host = find_host(args.rvc_root)
    source, experiment = host.resolve(args.input_dir), experiment_folder(host, args.output_dir)
    sample_rate = args.sample_rate or (40000 if host.is_checkout else 16000)
    config = network_config(host, args.version, sample_rate, args.config_json)
    check_folder_place(experiment, "--output_dir")
    method: Optional[str] = None
    if host.is_checkout:
        method = None if args.no_f0 else args.f0_method or default_f0_method(host, named=False)
        preprocess.check_needs(host, method)
    else:
        if args.version == "v1":
            raise UserError("without an RVC checkout there are only the demo's stand-in features of 768 values, v1 "
                            "takes 256: name a checkout with --rvc_root")
        if not args.no_f0:
            method = args.f0_method or "pm"
            if method != "pm":
                raise UserError("f0 method {method!r} needs an RVC checkout (--rvc_root): without one there is pm",
                                method=method)
        print(tr("no RVC checkout: features come from the demo's stand-in, not from HuBERT; train only the demo's "
                 "base on them"), file=sys.stderr)
    settings = Settings(args.version, sample_rate, method, "HuBERT" if host.is_checkout else "stand-in")
    return host, Plan(source, experiment, settings, config, args.speaker, args.workers)


def experiment_folder(host: Host, output: str) -> Path:
    """Where the experiment goes: RVC's scripts want it inside the checkout, so a relative path starts there.

    Raises:
        UserError: a path that RVC's filelist cannot hold, or a name that is too long for the names of its index.
    """
    path = host.result(output)
    size = len(os.fsencode(path.name))
    if size > MOST_BYTES:
        raise UserError("{path}: the names of the index have the experiment's name in them, and {size} bytes are too "
                        "many for that: choose another --output_dir of at most {most}", path=path, size=size,
                        most=MOST_BYTES)
    if any(character in str(path) for character in "|\n\r"):
        raise UserError("{path}: RVC's filelist cannot hold a path with '|' or a line break in it: choose another "
                        "--output_dir", path=path)
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise UserError("{path}: RVC's filelist is UTF-8, which this path is not: choose another --output_dir",
                        path=path) from None
    return path


def network_config(host: Host, version: str, sample_rate: int, config_json: Optional[str]) -> Dict[str, Any]:
    """The config.json of the experiment.

    Raises:
        UserError: there is none for this version and rate, or the given one is nonsense or of another rate.
    """
    from ..models.configuration import read_config_json  # brings PyTorch: --help does without

    if config_json is not None:
        path = host.resolve(config_json)
        contents = read_config_json(path)
        found = contents["data"]["sampling_rate"]
        if found != sample_rate:
            raise UserError("{path} is for {found} Hz, --sample_rate says {sample_rate}: give the same", path=path,
                            found=found, sample_rate=sample_rate)
        return contents
    if not host.is_checkout and sample_rate == 16000:
        return json.loads(DEMO_CONFIG.read_text(encoding="utf-8"))
    contents = host.config_for(version, sample_rate)
    if contents is None:
        known = ", ".join(str(c["data"]["sampling_rate"]) for v, c in host.configs() if v == version)
        raise UserError("RVC has no {version} configuration for {sample_rate} Hz (it has {known}): choose one of "
                        "these or give --config_json", version=version, sample_rate=sample_rate, known=known)
    return contents
