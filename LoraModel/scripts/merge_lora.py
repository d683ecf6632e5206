"""Write a base with adapters as an ordinary small RVC model.

python scripts/merge_lora.py --base_model f0G40k.pth --lora_weights voice.safetensors --output voice.pth
"""

from __future__ import annotations

if __package__ in (None, ""):
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, Optional

import torch
from torch import Tensor, nn
from tqdm import tqdm

from LoraModel.files import atomic_file
from LoraModel.host import find_host
from LoraModel.inference.infer_lora import paired_strengths, parse_rate
from LoraModel.inference.model_loader import VoiceLoader
from LoraModel.lora import weight_norm
from LoraModel.messages import UserError, cli, tr
from LoraModel.models import BaseInfo


@torch.no_grad()
def half_weights(network: nn.Module, changed: Any = ()) -> Dict[str, Tensor]:
    """The network's tensors as RVC's small files keep them: fp16, without enc_q.

    Args:
        changed: paths of layers that hold merged weights: their direction is rounded, their length is taken before rounding.

    Raises:
        UserError: a weight does not fit fp16.
    """
    weights = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items() if not name.startswith("enc_q.")}
    halves = {name: tensor.half() for name, tensor in weights.items()}
    for path in changed:
        stored = {name: tensor.detach().cpu() for name, tensor in weight_norm.stored_tensors(network.get_submodule(path)).items()}
        again = weight_norm.decompose(weight_norm.compose(stored), {name: tensor.half() for name, tensor in stored.items()})
        halves.update({f"{path}.{name}": tensor for name, tensor in again.items()})
    for name, tensor in halves.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{name} does not fit 16 bits: the strength is too high, or the base is damaged",
                            f"{name} 超出 16 位范围：强度过高或底模已损坏")
    return halves


def small_model(network: nn.Module, info: BaseInfo, note: str, changed: Any = ()) -> Dict[str, Any]:
    """What RVC's `VC.get_vc` loads: weight, config, info, sr, f0, version."""
    return {
        "weight": half_weights(network, changed), "config": list(info.config), "info": note, "sr": f"{info.sample_rate // 1000}k",
        "f0": int(info.f0), "version": info.version,
    }


def check_output(path: Path, force: bool, *inputs: Path) -> None:
    """Check that `path` may be written.

    Raises:
        UserError: it is there and `force` is off, it is an input, or it has another ending than .pth.
    """
    if path.suffix.lower() != ".pth":
        raise UserError(f"{path} must end in .pth: RVC lists only such files", f"{path} 必须以 .pth 结尾：RVC 只识别此类文件")
    if path.resolve() in {file.resolve() for file in inputs}:
        raise UserError(f"{path} is an input: choose another --output, bases are never overwritten",
                        f"{path} 是输入文件：请更换 --output，底模不会被覆盖")
    if path.is_dir() or (path.exists() and not force):
        raise UserError(f"{path} exists: choose another --output, or pass --force to overwrite it",
                        f"{path} 已存在：请更换 --output，或使用 --force 覆盖")


def save_model(path: Path, model: Dict[str, Any]) -> None:
    """Write an RVC model, whole or not at all."""
    with atomic_file(path) as stream:
        torch.save(model, stream)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="merge_lora.py", description=tr("Merge adapters into their base: an ordinary small RVC model (.pth).",
                                                                     "将适配器合并进底模，得到普通的 RVC 小模型（.pth）。"))
    p.add_argument("--base_model", required=True, help=tr("the base (.pth)", "底模（.pth）"))
    p.add_argument("--lora_weights", action="append", required=True, help=tr("an adapter; give it again to blend several",
                                                                             "适配器；重复给出可混合多个"))
    p.add_argument("--strength", action="append", type=float, default=[], help=tr("of each adapter, in their order (1)",
                                                                                  "各适配器的强度，按顺序（1）"))
    p.add_argument("--output", required=True, help=tr("the model to write (.pth)", "输出模型（.pth）"))
    p.add_argument("--name", help=tr("what the model says of itself (the adapters' names)", "模型信息（默认为适配器名称）"))
    p.add_argument("--force", action="store_true", help=tr("overwrite --output, and take adapters of another base",
                                                           "覆盖 --output，并允许使用其他底模的适配器"))
    p.add_argument("--sample_rate", help=tr("of the base, where two fit", "底模采样率，两种都符合时使用"))
    p.add_argument("--config_json", help=tr("config.json of a custom base", "自定义底模的 config.json"))
    p.add_argument("--rvc_root", help=tr("the RVC checkout", "RVC 目录"))
    return p


def main(argv: Optional[list] = None) -> int:
    args = parser().parse_args(argv)
    adapters = paired_strengths(args.lora_weights, args.strength)
    host = find_host(args.rvc_root)
    output = Path(args.output).expanduser().absolute()
    base, files = host.resolve(args.base_model), [host.resolve(path) for path, _ in adapters]
    check_output(output, args.force, base, *files)
    with tqdm(total=3, desc=tr("merging", "合并中")) as bar:
        voice = VoiceLoader(base, host, "cpu", parse_rate(args.sample_rate), args.config_json)
        bar.update()
        loaded = [(voice.load(file, args.force), strength) for file, (_, strength) in zip(files, adapters)]
        voice.set_adapters(loaded)
        bar.update()
        names = args.name or " + ".join(a.name if s == 1 else f"{s:g} x {a.name}" for a, s in loaded)
        changed = {path for adapter, _ in voice.applied for path in adapter.layers()}
        save_model(output, small_model(voice.network, voice.info, f"{names} (RVC-LoRA, base {voice.info.name})", sorted(changed)))
        bar.update()
    print(tr(f"wrote {output}", f"已写入 {output}"))
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
