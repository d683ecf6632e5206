"""Load a base: a pretrained generator (`{"model": …}`, with enc_q) or a full voice (`.pth` with `weight` and `config`)."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import torch
from torch import Tensor, nn

from ..host import Host
from ..lora import tensors_hash
from ..messages import UserError
from .checkpoint_file import damaged, read_checkpoint
from .random_state import undisturbed

SAMPLE_RATES = {"32k": 32000, "40k": 40000, "48k": 48000}
_FULL_CONFIG_KEYS = (
    "inter_channels", "hidden_channels", "filter_channels", "n_heads", "n_layers", "kernel_size", "p_dropout", "resblock",
    "resblock_kernel_sizes", "resblock_dilation_sizes", "upsample_rates", "upsample_initial_channel", "upsample_kernel_sizes",
    "spk_embed_dim", "gin_channels",
)


class NoConfiguration(UserError):
    """A base that has none of its own, and none or several of RVC's fit."""


@dataclass(frozen=True)
class BaseInfo:
    """What is known of a base.

    Attributes:
        name: file name without its ending. path: the file.
        config: RVC's list of 18 values: spectrogram bins, segment in frames, the network, [-3] speakers, [-1] sample rate in Hz.
        version: "v1" or "v2". f0: whether it takes pitch. sample_rate: Hz.
        has_posterior: whether enc_q is there, which training needs and RVC's small files drop.
        base_hash: SHA-256 of the tensors that inference uses (without enc_q), see `lora.tensors_hash`.
    """

    name: str
    path: Path
    config: List[Any]
    version: str
    f0: bool
    sample_rate: int
    has_posterior: bool
    base_hash: str

    @property
    def speakers(self) -> int:
        return self.config[-3]

    @property
    def hop_length(self) -> int:
        """Samples for each frame: the product of the upsampling rates."""
        product = 1
        for rate in self.config[12]:
            product *= rate
        return product


@dataclass
class Base:
    """A loaded base: the host's own network in fp32, in evaluation mode, and what is known of it."""

    network: nn.Module
    info: BaseInfo


def config_list(contents: Dict[str, Any]) -> List[Any]:
    """RVC's list of 18 values from an experiment's or a host's config.json (keys "train", "data", "model")."""
    data, train, model = contents["data"], contents["train"], contents["model"]
    values = [model[key] for key in _FULL_CONFIG_KEYS]
    return [data["filter_length"] // 2 + 1, train["segment_size"] // data["hop_length"], *values, data["sampling_rate"]]


def load_base(
    path: Union[str, Path], host: Host, sample_rate: Optional[int] = None, config_json: Union[str, Path, None] = None
) -> Base:
    """Load a base strictly.

    The network's configuration is the file's own; where it has none, `config_json`; else it is worked out from the shapes
    of its tensors.

    Args:
        sample_rate: Hz, to decide where two of RVC's configurations fit.

    Raises:
        UserError: unsafe or damaged file, a missing, extra or misshapen key (named), no or two configurations that fit.
    """
    path = Path(path)
    checkpoint = read_checkpoint(path)
    weights = checkpoint.get("weight", checkpoint.get("model"))
    if not _is_state_dict(weights):
        raise damaged(path, "it has neither 'model' nor 'weight' with tensors")
    for key in ("enc_p.emb_phone.weight", "emb_g.weight"):
        if key not in weights:
            raise UserError(f"{path} lacks the key {key}: it is no RVC generator (a discriminator, f0D….pth, goes to --base_d)",
                            f"{path} 缺少键 {key}：它不是 RVC 生成器（判别器 f0D….pth 请用 --base_d）")
        if weights[key].dim() != 2:
            raise damaged(path, f"{key} has shape {tuple(weights[key].shape)}")
    version = "v1" if weights["enc_p.emb_phone.weight"].shape[1] == 256 else "v2"
    f0 = "enc_p.emb_pitch.weight" in weights
    has_posterior = any(key.startswith("enc_q.") for key in weights)
    if "config" in checkpoint:
        config = _config_of_file(path, checkpoint["config"])
    elif config_json is not None:
        config = _config_of_json(Path(config_json))
    else:
        config = _config_from_shapes(path, weights, host, version, f0, sample_rate)
    config[-3] = weights["emb_g.weight"].shape[0]
    network = _build(path, config, host, version, f0)
    if not has_posterior:
        del network.enc_q
    load_strict(network, weights, path)
    network.float().eval().requires_grad_(False)
    base_hash = tensors_hash((key, value) for key, value in weights.items() if not key.startswith("enc_q."))
    info = BaseInfo(path.stem, path, config, version, f0, int(config[-1]), has_posterior, base_hash)
    return Base(network, info)


def load_base_beside_config(
    path: Union[str, Path], host: Host, sample_rate: Optional[int] = None, config_json: Union[str, Path, None] = None
) -> Base:
    """`load_base`, with the configuration beside a custom base: BASE.json or config.json, for base BASE.pth.

    It is taken only where the file has none of its own, none is given, and none of RVC's fits.
    """
    path = host.resolve(path)
    beside = next((file for file in (path.with_suffix(".json"), path.parent / "config.json") if file.is_file()), None)
    if config_json is not None or beside is None or not path.is_file():
        return load_base(path, host, sample_rate, config_json and host.resolve(config_json))
    try:
        return load_base(path, host, sample_rate)
    except NoConfiguration as error:
        try:
            return load_base(path, host, sample_rate, beside)
        except UserError as second:
            raise UserError(f"{error.en} ({beside.name} beside it does not fit either: {second.en})",
                            f"{error.zh}（旁边的 {beside.name} 也不匹配：{second.zh}）") from None


def _is_state_dict(weights: Any) -> bool:
    return isinstance(weights, dict) and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items())


def load_strict(network: nn.Module, weights: Dict[str, Tensor], path: Path) -> None:
    """`load_state_dict` that names the first key that is missing, extra or of another shape."""
    own = network.state_dict()
    for key in own:
        if key not in weights:
            raise UserError(f"{path} lacks the key {key}: it does not fit {type(network).__name__}",
                            f"{path} 缺少键 {key}：与 {type(network).__name__} 不匹配")
        if own[key].shape != weights[key].shape:
            raise UserError(
                f"{path}: {key} has shape {tuple(weights[key].shape)}, {type(network).__name__} wants {tuple(own[key].shape)}",
                f"{path}：{key} 的形状为 {tuple(weights[key].shape)}，而 {type(network).__name__} 需要 {tuple(own[key].shape)}",
            )
    extra = [key for key in weights if key not in own]
    if extra:
        raise UserError(f"{path} has the key {extra[0]}, which {type(network).__name__} does not know",
                        f"{path} 含有 {type(network).__name__} 中不存在的键 {extra[0]}")
    network.load_state_dict(weights)


def load_discriminator(path: Union[str, Path], host: Host, version: str) -> nn.Module:
    """Load a pretrained discriminator (`{"model": …}`) strictly, in fp32, frozen."""
    path = Path(path)
    weights = read_checkpoint(path).get("model")
    if not _is_state_dict(weights):
        raise damaged(path, "it has no 'model' with tensors")
    if "enc_p.emb_phone.weight" in weights:
        raise UserError(f"{path} is a generator, not a discriminator: give --base_d the file that goes with it (f0D….pth)",
                        f"{path} 是生成器而不是判别器：--base_d 需要与之配套的 f0D….pth")
    network = host.build_discriminator(version)
    load_strict(network, weights, path)
    return network.float().requires_grad_(False)


def _config_of_file(path: Path, values: Any) -> List[Any]:
    """RVC's list of 18 values as a small voice file holds it, checked."""
    if not isinstance(values, (list, tuple)) or len(values) != 18:
        found = f"{len(values)} values" if isinstance(values, (list, tuple)) else f"a {type(values).__name__}"
        raise damaged(path, f"its configuration has {found} instead of a list of 18")
    config = list(values)
    if isinstance(config[-1], str):
        config[-1] = SAMPLE_RATES.get(config[-1], config[-1])
    if not isinstance(config[-1], int) or config[-1] < 1:
        raise damaged(path, f"its configuration names {config[-1]!r} as the sample rate")
    return config


def _config_of_json(path: Path) -> List[Any]:
    """RVC's list of 18 values from a config.json of the user's."""
    try:
        return config_list(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}): give the config.json that the base was trained with",
                        f"无法将 {path} 读作 JSON（{error}）：请提供训练底模时使用的 config.json") from None
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is no RVC configuration (it lacks {error}): give the config.json that the base was trained with",
                        f"{path} 不是 RVC 配置文件（缺少 {error}）：请提供训练底模时使用的 config.json") from None


def _build(path: Path, config: List[Any], host: Host, version: str, f0: bool) -> nn.Module:
    """The network of `config`, which may come from a stranger's file: nonsense in it is the file's fault."""
    try:
        return host.build_synthesizer(config, version, f0)
    except UserError:
        raise
    except Exception as error:
        raise damaged(path, f"no network can be built from its configuration {config}: {error}") from error


def _config_from_shapes(
    path: Path, weights: Dict[str, Tensor], host: Host, version: str, f0: bool, sample_rate: Optional[int]
) -> List[Any]:
    """The one of the host's configurations whose network has the shapes of `weights`."""
    misfits: List[Tuple[List[str], List[Any]]] = []
    for candidate_version, contents in host.configs():
        config = config_list(contents)
        if candidate_version == version and sample_rate in (None, config[-1]):
            misfits.append((_misfits(config, weights, host, version, f0), config))
    fitting = [config for keys, config in misfits if not keys]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        wanted = f" at {sample_rate} Hz" if sample_rate else ""
        nearest = min(misfits, key=lambda item: len(item[0])) if misfits else None
        en = f" (the nearest is {version} at {nearest[1][-1]} Hz, which has no {nearest[0][0]})" if nearest else ""
        zh = f"（最接近的是 {version} {nearest[1][-1]} Hz，但其中没有 {nearest[0][0]}）" if nearest else ""
        raise NoConfiguration(
            f"{path} fits none of RVC's own configurations{wanted}{en}: give the config.json that it was trained with",
            f"{path} 与 RVC 自带的配置均不匹配{f'（{sample_rate} Hz）' if sample_rate else ''}{zh}：请提供训练时使用的 config.json",
        )
    rates = " / ".join(str(config[-1]) for config in fitting)
    raise NoConfiguration(f"{path} could be of {rates} Hz, its tensors fit both: say which with --sample_rate",
                          f"{path} 可能是 {rates} Hz（张量形状都符合）：请用 --sample_rate 指定")


def _misfits(config: List[Any], weights: Dict[str, Tensor], host: Host, version: str, f0: bool) -> List[str]:
    """Those of `weights` that the network of `config` does not have, or not in this shape: "key of shape (...)"."""
    config = list(config)
    config[-3] = weights["emb_g.weight"].shape[0]
    shapes = _shapes(host, json.dumps(config), version, f0)
    return [f"{key} of shape {tuple(value.shape)}" for key, value in weights.items() if shapes.get(key) != value.shape]


@functools.lru_cache(maxsize=64)
def _shapes(host: Host, config: str, version: str, f0: bool) -> Dict[str, torch.Size]:
    """Of all tensors of the network of `config`, which is JSON. Building it for real is faster than on PyTorch's meta device."""
    with undisturbed(torch.device("cpu")):  # whether it was built before must not show in anybody's random numbers
        return {key: value.shape for key, value in host.build_synthesizer(json.loads(config), version, f0).state_dict().items()}
