"""Load a base: a pretrained generator (`{"model": …}`, with enc_q) or a full voice (with `weight` and `config`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import torch
from torch import Tensor, nn

from ..commands import parse_rate
from ..defaults import shapes_alone, usual_defaults
from ..faults import out_of_memory
from ..host import Host
from ..lora import tensors_hash
from ..lora.voice_pitch import MODEL_KEY, VoicePitch, pitch_told
from ..messages import Text, UserError
from .checkpoint_file import damaged, open_checkpoint, read_checkpoint
from .configuration import Missing, WrongValue, checked, config_list, misfits, read_config_json
from .model_form import ModelForm, normalise
from .model_kind import GENERATOR_KEYS, kind_of, misshapen, rate_from_shapes
from .prior_noise import share_told

__all__ = ["Base", "BaseInfo", "NoConfiguration", "SAMPLE_RATES", "check_finite", "config_list", "load_base",
           "load_base_beside_config",
           "load_discriminator", "load_strict", "network_of_shapes", "read_checkpoint"]

SAMPLE_RATES = {"32k": 32000, "40k": 40000, "48k": 48000}


class NoConfiguration(UserError):
    """A base that has none of its own, and none or several of RVC's fit."""


@dataclass(frozen=True)
class BaseInfo:
    """What is known of a base.

    Attributes:
        name: file name without its ending. path: the file.
        config: RVC's list of 18 values: spectrogram bins, segment in frames, the network, [-3] speakers, [-1] Hz.
        version: "v1" or "v2". f0: whether it takes pitch. sample_rate: Hz.
        has_posterior: whether enc_q is there, which training needs and RVC's small files drop.
        base_hash: SHA-256 of the tensors that inference uses (without enc_q), see `lora.tensors_hash`.
        pitch: how high a merged voice speaks, where its file tells. noise: the share of RVC's own noise that it was
        merged with.
    """

    name: str
    path: Path
    config: List[Any]
    version: str
    f0: bool
    sample_rate: int
    has_posterior: bool
    base_hash: str
    pitch: Optional[VoicePitch] = None
    noise: float = 1.0

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


@usual_defaults()
def load_base(
    path: Union[str, Path], host: Host, sample_rate: Union[int, str, None] = None,
    config_json: Union[str, Path, None] = None
) -> Base:
    """Load a base strictly.

    The network's configuration is the file's own; where it has none, `config_json`; else it is worked out from the
    shapes of its tensors.

    Args:
        sample_rate: Hz, or text such as "40k", to decide where two of RVC's configurations fit.

    Raises:
        UserError: unsafe or damaged file, a missing, extra or misshapen key (named), no or two configurations that
            fit, a sample rate that cannot be.
    """
    path, rate = Path(path), parse_rate(sample_rate)
    with open_checkpoint(path) as file:
        form = generator_form(path, file.contents)
        config, version, f0 = _configuration(path, form, host, rate, config_json)
        weights = form.tensors(file.tensor)
    check_finite(path, weights)
    network = _build(path, config, host, version, f0)
    has_posterior = any(key.startswith("enc_q.") for key in weights)
    if not has_posterior:
        del network.enc_q
    load_strict(network, weights, path)
    network.float().eval().requires_grad_(False)
    base_hash = tensors_hash((key, value) for key, value in weights.items() if not key.startswith("enc_q."))
    info = BaseInfo(path.stem, path, config, version, f0, int(config[-1]), has_posterior, base_hash,
                    pitch_told(form.beside, MODEL_KEY), share_told(form.beside))
    return Base(network, info)


def _configuration(
    path: Path, form: ModelForm, host: Host, sample_rate: Optional[int], config_json: Union[str, Path, None]
) -> Tuple[List[Any], str, bool]:
    """A generator's (RVC's list of 18 values, "v1" or "v2", whether it takes pitch), read from its file."""
    shapes = form.shapes()
    version = "v1" if shapes["enc_p.emb_phone.weight"][1] == 256 else "v2"
    f0 = "enc_p.emb_pitch.weight" in shapes
    own = form.config
    if own is not None:
        config = _config_of_file(path, form)
    elif config_json is not None:
        config = _config_of_json(Path(config_json), path, shapes, f0)
    else:
        config = _config_from_shapes(path, form.weights, host, version, f0, sample_rate or form.sample_rate, shapes)
    config[-3] = shapes["emb_g.weight"][0]
    if sample_rate is not None and config[-1] != sample_rate:
        raise UserError("{path} is of {config} Hz, and {sample_rate} Hz was asked for: leave out --sample_rate, "
                        "or choose a base of {sample_rate} Hz",
                        path=path, config=config[-1], sample_rate=sample_rate)
    return config, version, f0


@usual_defaults()
def network_of_shapes(path: Union[str, Path], host: Host) -> nn.Module:
    """The network of a base without its weights, for counting: nothing of them is read.

    Raises:
        UserError: as `load_base`.
    """
    path = host.resolve(path)
    beside = next((file for file in (path.with_suffix(".json"), path.parent / "config.json") if file.is_file()), None)
    with open_checkpoint(path) as file:
        form = generator_form(path, file.contents)
    try:
        config, version, f0 = _configuration(path, form, host, None, None)
    except NoConfiguration:
        if beside is None:
            raise
        config, version, f0 = _configuration(path, form, host, None, beside)
    with shapes_alone():
        return _build(path, config, host, version, f0)


def generator_form(path: Path, contents: Any) -> ModelForm:
    """The generator that a file holds.

    Raises:
        UserError: it holds none; what it is instead is named.
    """
    form = normalise(contents)
    kind = kind_of(path, contents, form)
    if form is None:
        keys = set(contents) if isinstance(contents, dict) else set()
        optimizer = keys & {"param_groups", "optimizer"} and not keys & {"model", "weight"}
        raise kind.problem if optimizer and kind.problem else damaged(
            path, Text("it has neither 'model' nor 'weight' with tensors"))
    if kind.kind == "adapter":
        raise UserError("{path} is an adapter, not a base: give it to --lora_weights, and the base that it was "
                        "trained on to --base_model", path=path)
    for key in GENERATOR_KEYS:
        if key not in form.weights:
            if kind.kind == "other" and kind.problem and "lacks the key" not in kind.problem.en:
                raise kind.problem
            raise UserError("{path} lacks the key {key}: it is no RVC generator (a discriminator, f0D….pth, goes to "
                            "--base_d)", path=path, key=key)
    wrong = misshapen(path, form)
    if wrong is not None:
        raise wrong
    if kind.vocoder in ("RefineGAN", "MRF HiFi-GAN") and kind.problem:
        raise kind.problem
    return form


def check_finite(path: Path, weights: Dict[str, Tensor]) -> None:
    """Refuse values that are no numbers: every sound made with them would be a click or nothing.

    Raises:
        UserError: names the first tensor that holds one.
    """
    for key, value in weights.items():
        if value.is_floating_point() and not bool(torch.isfinite(value.float()).all()):
            raise UserError("{path} is damaged: {key} holds values that are no numbers (NaN or infinity). Download it "
                            "again, or choose another", path=path, key=key)


def load_base_beside_config(
    path: Union[str, Path], host: Host, sample_rate: Union[int, str, None] = None,
    config_json: Union[str, Path, None] = None
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
            if str(second).startswith(str(path)):  # of the base itself, whatever lies beside it
                raise
            raise UserError("{error} ({beside_name} beside it does not fit either: {second})", error=error,
                            beside_name=beside.name, second=second) from None


def load_strict(network: nn.Module, weights: Dict[str, Tensor], path: Path) -> None:
    """`load_state_dict` that names the first key that is missing, extra or of another shape."""
    own = network.state_dict()
    for key in own:
        if key not in weights:
            raise UserError("{path} lacks the key {key}: it does not fit {name}", path=path, key=key,
                            name=type(network).__name__)
        if own[key].shape != weights[key].shape:
            raise UserError("{path}: {key} has shape {shape}, {name} wants {shape_2}", path=path, key=key,
                            shape=tuple(weights[key].shape), name=type(network).__name__, shape_2=tuple(own[key].shape))
    extra = [key for key in weights if key not in own]
    if extra:
        raise UserError("{path} has the key {first}, which {name} does not know", path=path, first=extra[0],
                        name=type(network).__name__)
    network.load_state_dict(weights)


@usual_defaults()
def load_discriminator(path: Union[str, Path], host: Host, version: str) -> nn.Module:
    """Load a pretrained discriminator (`{"model": …}`) strictly, in fp32, frozen."""
    path = Path(path)
    with open_checkpoint(path) as file:
        form = normalise(file.contents)
        if form is None or form.wrapping == "weight":
            raise damaged(path, Text("it has no 'model' with tensors"))
        if "enc_p.emb_phone.weight" in form.weights:
            raise UserError("{path} is a generator, not a discriminator: give --base_d the file that goes with it "
                            "(f0D….pth)", path=path)
        weights = form.tensors(file.tensor)
    check_finite(path, weights)
    network = host.build_discriminator(version)
    load_strict(network, weights, path)
    return network.float().requires_grad_(False)


def _config_of_file(path: Path, form: ModelForm) -> List[Any]:
    """RVC's list of 18 values as a voice's file holds it, checked by itself and against the tensors.

    Where the last, the sample rate, is missing, it is taken from what else the file says.
    """
    values = form.config
    if isinstance(values, (list, tuple)) and len(values) == 17 and form.sample_rate:
        values = [*values, form.sample_rate]
    if not isinstance(values, (list, tuple)) or len(values) != 18:
        found = (Text("{count} values", count=len(values)) if isinstance(values, (list, tuple))
                 else Text("a {kind}", kind=type(values).__name__))
        raise damaged(path, Text("its configuration has {found} instead of a list of 18", found=found))
    f0 = "enc_p.emb_pitch.weight" in form.weights
    try:
        config = checked([*values[:15], form.weights["emb_g.weight"].shape[0], *values[16:]])
        wrong = misfits(config, form.shapes(), f0)
    except WrongValue as error:
        raise damaged(path, Text("no network can be built from its configuration: {error}", error=error)) from None
    except Missing as error:
        raise _lacks(path, error.args[0]) from None
    if wrong:
        raise damaged(path, Text("no network can be built from its configuration: {first}", first=wrong[0]))
    return config


def _lacks(path: Path, key: str) -> UserError:
    return UserError("{path} lacks the key {key}: it does not fit RVC's network", path=path, key=key)


def _config_of_json(file: Path, path: Path, shapes: Dict[str, torch.Size], f0: bool) -> List[Any]:
    """RVC's list of 18 values from a config.json of the user's, for the base `path`."""
    config = checked(config_list(read_config_json(file)))
    try:
        wrong = misfits(config, shapes, f0)
    except Missing as error:
        raise _lacks(path, error.args[0]) from None
    if wrong:
        raise UserError("{file} is of another base than {path} ({first}): give the config.json that it was trained "
                        "with", file=file, path=path, first=wrong[0])
    return config


def _build(path: Path, config: List[Any], host: Host, version: str, f0: bool) -> nn.Module:
    """The network of `config`, which may come from a stranger's file: nonsense in it is the file's fault."""
    try:
        return host.build_synthesizer(config, version, f0)
    except UserError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0][:200]
        raise damaged(path, Text("no network can be built from its configuration: {reason}", reason=reason)) from error


def _config_from_shapes(
    path: Path, weights: Dict[str, Any], host: Host, version: str, f0: bool, sample_rate: Optional[int],
    shapes: Optional[Dict[str, torch.Size]] = None,
) -> List[Any]:
    """The one of the host's configurations whose network has the shapes of `weights`."""
    shapes = shapes or {key: value.shape for key, value in weights.items()}
    known = [config_list(contents) for candidate, contents in host.configs() if candidate == version]
    try:
        fitting = [config for config in known if not misfits(config, shapes, f0)]
    except Missing as error:
        raise _lacks(path, error.args[0]) from None
    if sample_rate is not None and fitting and sample_rate not in [config[-1] for config in fitting]:
        rates = " / ".join(str(config[-1]) for config in fitting)
        raise NoConfiguration("{path} is a {version} base of {rates} Hz, and {sample_rate} Hz was asked for: leave "
                              "out --sample_rate, or choose a base of {sample_rate} Hz",
                              path=path, version=version, rates=rates, sample_rate=sample_rate)
    fitting = [config for config in fitting if sample_rate in (None, config[-1])]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        rate = rate_from_shapes(shapes)
        own = Text(" (its shapes are those of a {version} base of {rate} Hz with a size of its own)",
                   version=version, rate=rate) if rate else ""
        raise NoConfiguration("{path} fits none of RVC's own configurations{reason}: give the config.json that it was "
                              "trained with", path=path, reason=own)
    rates = " / ".join(str(config[-1]) for config in fitting)
    raise NoConfiguration("{path} could be of {rates} Hz, its tensors fit both: say which with --sample_rate",
                          path=path, rates=rates)
