"""Train an adapter: `python training/train_lora.py --base_model G.pth --data_dir logs/NAME --output_dir OUT`.

Exit codes: 0 trained, or stopped and saved on SIGINT or SIGTERM; 2 something to put right, in one line; 3
trained, and worse than the base alone on the recordings kept out; 130 interrupted by SIGINT or SIGTERM before the first
step, or by a second SIGINT.
"""

from __future__ import annotations

# Import it by its proper name, so that Ctrl-C while PyTorch loads is one line, too
if __name__ == "__main__":
    import pathlib
    import sys

    if not __package__:  # run as a script
        sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])
    from LoraModel.commands import start

    sys.exit(start("LoraModel.training.train_lora"))

import argparse
import sys
import time
from typing import Any, Dict, List, Optional, Union

from LoraModel import commands
from LoraModel.host import find_checkout, find_host, hush_torch
from LoraModel.inference.adapter_choice import find_adapter, weight_of
from LoraModel.inference.options import add_preview_option, add_word_options
from LoraModel.inference.preview import Previewer
from LoraModel.inference.strength import check_strength
from LoraModel.lora import Adapter, load_adapter
from LoraModel.messages import UserError, tr
from LoraModel.models import PRESETS, load_base_beside_config, prior_noise
from LoraModel.training import ranks
from LoraModel.training.build import prepare
from LoraModel.training.config import AUTO, PRECISIONS, TrainConfig
from LoraModel.training.heldout import Score
from LoraModel.training.in_programs import with_recordings_prepared
from LoraModel.training.publishing import put_into_list
from LoraModel.training.settings_file import own_names, read_config_file
from LoraModel.training.signals import handle_signals
from LoraModel.training.trainer import Trainer

WORSE = 3
"""Exit code of a run whose best adapter is worse than the base alone."""


MOST = 10**9
"""Of epochs, steps and the like; `TrainConfig` and the base have limits of their own."""


def parser() -> argparse.ArgumentParser:
    p = commands.Parser(prog="train_lora", argument_default=argparse.SUPPRESS, epilog=commands.exit_codes(
        tr("3 trained, and worse than the base alone; ")), description=tr(
        "Train a LoRA adapter for one voice. docs/settings.md lists the settings that a file given to --config can "
        "hold beside these options."))
    add = p.add_argument
    add("--base_model", type=commands.path, help=tr("the pretrained generator (required), such as "
                                                    "assets/pretrained_v2/f0G40k.pth"))
    add("--data_dir", type=commands.path, help=tr("RVC's experiment folder logs/NAME (required), as prepare_data.py "
                                                  "or RVC's page makes it; or a folder of recordings, which are "
                                                  "prepared first"))
    add("--output_dir", type=commands.path, help=tr("folder for the adapter and the run (required); a relative one "
                                                    "lies in the RVC checkout"))
    add("--name", help=tr("name of the voice (default: the experiment folder's)"))
    add("--base_d", type=commands.path, help=tr("pretrained discriminator, such as assets/pretrained_v2/f0D40k.pth: "
                                                "adversarial training as RVC does it (default: none)"))
    add("--preset", choices=list(PRESETS), help=tr("which layers are trained at which ranks; at v2 40k clear has "
                                                   "157,504 parameters (340 KB), balanced 163,520 (360 KB), fast "
                                                   "101,888 (221 KB), high_quality 380,032 (793 KB)"))
    add("--lora_rank", "--rank", "--network_dim", type=commands.whole(1, MOST), dest="lora_rank", help=tr(
        "one rank for all layers of the preset; at v2 40k each unit of rank costs clear 109 K parameters, 219 KB "
        "(default: the preset's ranks)"))
    add("--lora_alpha", "--network_alpha", type=commands.number(0, 1e6), dest="lora_alpha", help=tr(
        "one alpha for all layers: an adapter's weights are scaled by alpha / rank (default: twice the rank)"))
    add("--config", type=commands.path, help=tr("file of settings (JSON, TOML, YAML); options on the command line "
                                                "override it (default: none)"))
    add("--epochs", type=epochs, help=tr("passes over the training clips; auto: until nothing improves any more"))
    add("--batch_size", type=commands.whole(1, MOST), help=tr("clips a step"))
    add("--lr", "--learning_rate", type=commands.number(0, 1000), dest="lr",
        help=tr("peak learning rate, after a linear warm-up; it falls from there"))
    add("--save_every", type=commands.whole(1, MOST),
        help=tr("epochs between saves, each with a held-out evaluation; with --epochs auto times ten steps"))
    add("--patience", type=commands.whole(0, MOST),
        help=tr("end after this many saves without a better figure; with --epochs auto the learning rate falls then "
                "(default: 0, which is never, and four with auto)"))
    add("--decoder_every", type=commands.whole(1, MOST),
        help=tr("train the decoder at every k-th step only: with 2 a step takes about half the time and learns less"))
    add("--device", help=tr("auto, cpu, cuda, cuda:1 …; auto takes the GPU where there is one"))
    add("--precision", choices=PRECISIONS, help=tr("number format of the networks' arithmetic; bf16 is faster on "
                                                   "newer GPUs and CPUs"))
    add("--noise", type=commands.number(prior_noise.LEAST, prior_noise.MOST), help=tr(
        "share of RVC's random noise that the voice is heard with: less is clearer and calmer, 1 is RVC's own; 0.05 to "
        "4"))
    add("--seed", type=commands.seed, help=tr("seed of all random numbers: the same seed trains the same adapter "
                                              "again"))
    add("--valid_fraction", type=commands.number(0, 1),
        help=tr("share of the clips that is kept out of training, to choose the best save"))
    add("--speaker", type=commands.whole(0, MOST),
        help=tr("row of the base's speaker table that the voice is trained on"))
    add("--speaker_id", type=commands.whole(0, MOST),
        help=tr("take the clips of this speaker, where the filelist has several "
"(default: the only one)"))
    add("--init_speaker", type=commands.whole(-1, MOST),
        help=tr("the base's speaker to start from; -1 tries all of them"))
    add("--init", nargs="+", metavar="FILE[:STRENGTH]", help=tr(
        "start from another adapter of the same base, layers and ranks, or from a blend of several (default: from the "
        "base)"))
    add("--resume", action="store_true", help=tr("resume the run in --output_dir"))
    add("--not_in_list", action="store_true", help=tr("do not put the adapter into the list of RVC's page "
                                                      "(assets/lora of the checkout)"))
    commands.add_rvc_root(p)
    commands.add_base_form(p)
    add_word_options(p, argparse.SUPPRESS)
    add_preview_option(p)
    p.show_defaults(TrainConfig().to_dict())
    return p


def epochs(text: str) -> Union[int, str]:
    """The type of --epochs: a whole number, or auto."""
    return AUTO if text.strip().lower() == AUTO else commands.whole(1, MOST)(text)


def main(argv: Optional[List[str]] = None) -> int:
    options = vars(parser().parse_args(argv))
    resume, rvc_root, rate = options.pop("resume", False), options.pop("rvc_root",
                                                                       None), options.pop("sample_rate", None)
    preview, init = not options.pop("no_preview", False), options.pop("init", [])
    listed = not options.pop("not_in_list", False)
    config_json = options.pop("config_json", None)
    settings: Dict[str, Any] = own_names(read_config_file(options.pop("config"))) if "config" in options else {}
    settings.update(options)
    config = TrainConfig.from_dict(settings)  # a setting that is misspelt comes before one that seems to be missing
    for key in ("base_model", "data_dir", "output_dir"):
        if not settings.get(key):
            raise UserError("--{key} is missing (--help lists the options)", key=key)
    hush_torch()
    undo = handle_signals(None)
    try:
        if ranks.alone():
            config = with_recordings_prepared(config, find_host(rvc_root), resume, rate, config_json)
        with ranks.joined(config, rvc_root, resume) as config:
            start = start_of(init, config, rvc_root) if init else None
            return _train(config, resume, rvc_root, rate, config_json, preview, start, listed)
    except KeyboardInterrupt:
        print(tr("stopped at once; the last save, if there was one, is kept"), file=sys.stderr)
        return 130
    finally:
        undo()


def _train(config: TrainConfig, resume: bool, rvc_root: Optional[str], rate: Optional[int],
           config_json: Optional[str], preview: bool, start: Optional[Adapter], listed: bool) -> int:
    """Train, and return the exit code."""
    trainer = prepare(config, resume, rvc_root, rate, config_json, init=start, preview=preview)
    handle_signals(trainer)
    started = time.perf_counter()
    if not trainer.run():
        return 0
    if preview and ranks.first():
        Previewer(trainer.host).try_to_add(trainer.adapter_path, trainer.info.path, lambda: load_base_beside_config(
            trainer.info.path, trainer.host, rate, config_json))
    code = report(trainer, time.perf_counter() - started)
    if listed and trainer.host.root is not None and ranks.first():
        place = put_into_list(trainer.adapter_path, trainer.host.root)
        if place is not None:
            print(tr("in the list of RVC's page: {place}", place=place))
    return code


def start_of(texts: List[str], config: TrainConfig, rvc_root: Optional[str]) -> Adapter:
    """What --init names: one adapter as it is, or a blend brought to the run's ranks; its name is what was given.

    Raises:
        UserError: a file that is no adapter, a strength that cannot be, adapters of two bases.
    """
    from LoraModel.conversion.blend import blend
    from LoraModel.conversion.factors import resized

    checkout = find_checkout(rvc_root)
    root = checkout.root if checkout is not None else None
    chosen = []
    for text in texts:
        file, strength = weight_of(text)
        check_strength(1.0 if strength is None else strength)
        adapter = load_adapter(find_adapter(file, root))
        adapter.metadata["name"] = text  # an error names the user's file
        chosen.append((adapter, 1.0 if strength is None else strength))
    if len(chosen) == 1 and chosen[0][1] == 1:
        return chosen[0][0]
    wanted = {name: target.r for name, target in config.lora_config().targets.items()}
    made = blend(chosen, " + ".join(texts))
    presets = {adapter.config.preset for adapter, _ in chosen}
    if len(presets) == 1:
        made.config.preset = presets.pop()
    return resized(made, wanted).adapter


def report(trainer: Trainer, seconds: float) -> int:
    """Tell how the run ended, and return the exit code."""
    best, path = trainer.best, trainer.adapter_path
    sharp = Score(best, *trainer.best_sharp).words()
    print(tr("done in {seconds:.0f} s. Held-out log-mel L1: base {base_heldout:.4f}, adapter {best:.4f} (step "
             "{best_step}); {sharp}. Adapter: {path} ({st_size:,} bytes)",
             seconds=seconds, base_heldout=trainer.base_heldout, best=best, best_step=trainer.best_step, sharp=sharp,
             path=path, st_size=path.stat().st_size))
    if trainer.base_heldout is None or best <= trainer.base_heldout:
        return 0
    print(tr("warning: THE ADAPTER IS WORSE THAN THE BASE ALONE on the recordings kept out of training: do not use "
             "it. Train again with a lower --lr, more epochs or more recordings"), file=sys.stderr)
    return WORSE
