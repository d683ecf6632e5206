"""Train many voices: `python training/train_many.py --base_model G.pth --voices RECORDINGS --output_dir OUT`.

The same command, run again, continues where it stopped. Exit codes: 0 all voices are done, or the run was stopped and
saved; 1 some have failed; 2 something to put right, in one line; 130 broken off by a second Ctrl-C.
"""

from __future__ import annotations

# Import it by its proper name, so that Ctrl-C while PyTorch loads is one line, too
if __name__ == "__main__":
    import pathlib
    import sys

    if not __package__:  # run as a script
        sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])
    from LoraModel.commands import start

    sys.exit(start("LoraModel.training.train_many"))

import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional

from LoraModel import commands
from LoraModel.fleet.manifest import of_cell, read_voices
from LoraModel.fleet.progress import table_of
from LoraModel.fleet.session import LIST_KEY, Session, load, place_of, work_of
from LoraModel.host import find_host, hush_torch
from LoraModel.messages import UserError, tr
from LoraModel.names import shown
from LoraModel.training.config import TrainConfig
from LoraModel.training.settings_file import own_names, read_config_file

FAILED = 1
MOST_WORKERS, MOST_TOGETHER = 4096, 256
AS_SETTINGS = ("epochs", "preset", "batch_size", "device", "noise", "seed")
"""Options that are settings of TrainConfig."""


def parser() -> commands.Parser:
    p = commands.Parser(prog="train_many", description=tr(
        "Train an adapter for each of many voices on one base. The same command, run again, continues where it "
        "stopped."),
        epilog=tr("exit codes: 0 all voices are done, or stopped and saved; 1 some have failed; 2 something to put "
                  "right, in one line; 130 broken off"))
    add = p.add_argument
    add("--base_model", type=commands.path, help=tr("the pretrained generator of all voices, such as "
                                                    "assets/pretrained_v2/f0G40k.pth (default: the one that "
                                                    "--output_dir has already)"))
    add("--voices", type=commands.path, help=tr(
        "a folder with a folder of recordings (or an experiment folder) for each voice, or a manifest: CSV or JSON, a "
        "voice a row, with the columns name and recordings and any setting of docs/settings.md (default: the voices "
        "that --output_dir has already)"))
    add("--output_dir", type=commands.path, required=True, help=tr("folder for all voices; a relative one lies in the "
                                                                   "RVC checkout"))
    add("--engine", choices=("local", "ray"), default="local", help=tr(
        "local: this machine; ray: a cluster of machines (requirements-fleet.txt)"))
    add("--workers", type=commands.whole(1, MOST_WORKERS), help=tr(
        "voices that train at a time (default: one a core, or a GPU, as memory bears)"))
    add("--together", type=commands.whole(1, MOST_TOGETHER), help=tr(
        "voices in one batch of one worker (default: 1 on a CPU, where a batch of voices gains nothing; 8 on a GPU)"))
    add("--address", help=tr("of a Ray cluster (default: Ray is started on this machine)"))
    add("--per_voice", help=tr("what a voice takes of a Ray cluster, such as CPU=1,GPU=0.25 (default: CPU=1)"))
    add("--config", type=commands.path, help=tr(
        "file of settings for all voices (JSON, TOML, YAML); the command line overrides it, and the manifest overrides "
        "both (default: none)"))
    add("--epochs", help=tr("passes over the training clips of each voice"))
    add("--preset", help=tr("which layers are trained at which ranks"))
    add("--batch_size", help=tr("clips a step of each voice"))
    add("--device", help=tr("auto, cpu, cuda, cuda:1 …; auto takes all GPUs where there are some"))
    add("--noise", help=tr("share of RVC's random noise that each voice is heard with: less is clearer and calmer, 1 "
                           "is RVC's own; 0.05 to 4"))
    add("--seed", help=tr("of the random numbers: the same one trains the same adapters again"))
    add("--index", action="store_true", help=tr("build the faiss index of each voice that has none"))
    add("--not_in_list", action="store_true", help=tr("do not put the adapters into the list (assets/lora of the "
                                                      "checkout, else adapters/ in --output_dir)"))
    add("--json", action="store_true", help=tr(
        "print the progress as JSON, a line for each change, on standard output"))
    commands.add_rvc_root(p)
    commands.add_base_form(p)
    p.show_defaults(TrainConfig().to_dict())
    return p


def main(argv: Optional[List[str]] = None) -> int:
    options = parser().parse_args(argv)
    hush_torch()
    host = find_host(options.rvc_root)
    voices, refused = read_voices(host.resolve(options.voices)) if options.voices else ([], [])
    session = Session(host.result(options.output_dir))
    with session.only_one():
        former = session.work
        base_model = options.base_model or (former.base_model if former else None)
        if not base_model or not (options.voices or session.ledger.entries()):
            key = "voices" if base_model else "base_model"
            raise UserError("--{key} is missing (--help lists the options)", key=key)
        form: Dict[str, Any] = {"sample_rate": options.sample_rate or (former.sample_rate if former else None),
                                "config_json": options.config_json or (former.config_json if former else None)}
        base = load(host, base_model, **form)
        if options.voices or former is None:
            work = work_of(base, session.output, settings_of(options), host, index=options.index,
                           publish=not options.not_in_list, adapters=session.ledger.get(LIST_KEY), **form)
        else:  # `work` is always of the base that was loaded: voices that name no other are trained on that
            work = replace(former, base_model=place_of(base), base_hash=base.info.base_hash, **form)
            _say_left_out(options)
        session.begin(work)
        if options.voices:
            otherwise = session.done_otherwise(voices, former, work)
            if otherwise:
                print(tr("note: done with other settings, and left as they are: {names}. To train them with these, "
                         "give another --output_dir", names=", ".join(otherwise)), file=sys.stderr)
            session.enter(voices, refused)
        if options.engine == "ray":
            from LoraModel.fleet.by_ray import ByRay

            engine: Any = ByRay(session.ledger, work, base, options.workers, options.address,
                                needs_of(options.per_voice))
        else:
            engine = session.local(base, work, options.workers, options.together)
        lines = session.lines(engine.most, options.json)
        undo = handle_signals(engine)
        try:
            engine.run(lines)
        except KeyboardInterrupt:
            print(tr("broken off; the last saves are kept"), file=sys.stderr)
            return 130
        finally:
            undo()
        lines.tell(last=True)
        entries = session.finish()
        session.ledger.put("ended", repr(time.time()))
    if not options.json:
        print(table_of(entries))
        print(tr("report: {path}", path=session.output / "report.html"))
    return FAILED if any(entry.state == "failed" for entry in entries) else 0


def _say_left_out(options: Any) -> None:
    """Say on standard error which options a run that goes on does not look at."""
    given = [f"--{key}" for key in (*AS_SETTINGS, "config", "index", "not_in_list") if getattr(options, key)]
    if given:
        print(tr("note: without --voices the run goes on with the settings that it began with; {options} changed "
                 "nothing. Give --voices again to change them", options=", ".join(given)), file=sys.stderr)


def settings_of(options: Any) -> Dict[str, Any]:
    """Settings of all voices: the file's, and the command line's before it."""
    settings: Dict[str, Any] = own_names(read_config_file(Path(options.config))) if options.config else {}
    for key in ("base_model", "name", "data_dir", "output_dir"):  # the command's own
        settings.pop(key, None)
    given = {key: getattr(options, key) for key in AS_SETTINGS if getattr(options, key) is not None}
    return {**settings, **{key: of_cell(key, text) for key, text in given.items()}}


def needs_of(text: Optional[str]) -> Dict[str, float]:
    """"CPU=1,GPU=0.25" -> {"CPU": 1.0, "GPU": 0.25}.

    Raises:
        UserError: it is something else.
    """
    needs: Dict[str, float] = {}
    for part in (text or "").split(","):
        if part.strip():
            name, sign, amount = part.partition("=")
            if not sign or not name.strip():
                raise UserError("--per_voice {text}: write it as CPU=1,GPU=0.25", text=shown(text))
            needs[name.strip()] = commands.parse_number(amount, 0, 1e6)
    return needs


def handle_signals(engine: Any) -> Any:
    """SIGINT and SIGTERM let what trains save and end; a second one breaks off. Returns what puts the former handlers
    back."""
    asked: List[int] = []

    def ask(number: int, _frame: Any) -> None:
        if asked:
            engine.break_off()
            raise KeyboardInterrupt
        asked.append(number)
        print(tr("\nsaving what trains, then ending; Ctrl-C again breaks off"), file=sys.stderr, flush=True)
        engine.stop()

    former = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}

    def undo() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    return undo
