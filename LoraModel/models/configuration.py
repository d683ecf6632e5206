"""The configuration of a network: RVC's list of 18 values, from a model's file or a config.json.

It is typed, bounded and compared with the tensors' shapes before any network is built. No message
carries a whole configuration.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ..files import bounded_json
from ..messages import Text, UserError
from .model_form import rate_of

MODEL_KEYS = (
    "inter_channels", "hidden_channels", "filter_channels", "n_heads", "n_layers", "kernel_size", "p_dropout",
    "resblock",
    "resblock_kernel_sizes", "resblock_dilation_sizes", "upsample_rates", "upsample_initial_channel",
    "upsample_kernel_sizes", "spk_embed_dim", "gin_channels",
)
NAMES = ("spec_channels", "segment_size", *MODEL_KEYS, "sampling_rate")
"""Of the 18 values."""
_LIMITS = {"spec_channels": 8193, "segment_size": 100_000, "inter_channels": 4096, "hidden_channels": 4096,
           "filter_channels": 16384, "n_heads": 64, "n_layers": 64, "kernel_size": 31, "upsample_initial_channel": 4096,
           "spk_embed_dim": 100_000, "gin_channels": 4096}


class WrongValue(UserError):
    """A value of a configuration that no network can have; the text, a part of a sentence, names it."""


def shown(value: Any) -> str:
    """A value, fit for a message."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def config_list(contents: Mapping[str, Any]) -> List[Any]:
    """RVC's list of 18 values from an experiment's or a host's config.json (keys "train", "data", "model")."""
    data, train, model = contents["data"], contents["train"], contents["model"]
    values = [model[key] for key in MODEL_KEYS]
    return [data["filter_length"] // 2 + 1, train["segment_size"] // data["hop_length"], *values, data["sampling_rate"]]


def whole(value: Any, name: str, most: int, least: int = 1) -> int:
    """A whole number from `least` to `most`, which may be written as a float.

    Raises:
        WrongValue: it is none.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not least <= value <= most or value != int(value):
        raise WrongValue("{name} is {value}", name=name, value=shown(value))
    return int(value)


def _wholes(value: Any, name: str, most: int, length: int = 16) -> List[int]:
    if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= length:
        raise WrongValue("{name} is {value}", name=name, value=shown(value))
    return [whole(item, name, most) for item in value]


def checked(values: Sequence[Any]) -> List[Any]:
    """The 18 values with their types put right.

    Raises:
        WrongValue: one is of another type or beyond all sense, or a frame is not a hundredth of a second.
    """
    given = dict(zip(NAMES, values))
    rate = rate_of(given["sampling_rate"])
    if rate is None:
        raise WrongValue("it names {rate} as the sample rate", rate=shown(given["sampling_rate"]))
    found: Dict[str, Any] = {name: whole(given[name], name, most) for name, most in _LIMITS.items()}
    dropout = given["p_dropout"]
    if not isinstance(dropout, (int, float)) or not 0 <= dropout <= 1:
        raise WrongValue("{name} is {value}", name="p_dropout", value=shown(dropout))
    if str(given["resblock"]) not in ("1", "2"):
        raise WrongValue("{name} is {value}", name="resblock", value=shown(given["resblock"]))
    dilations = given["resblock_dilation_sizes"]
    if not isinstance(dilations, (list, tuple)) or not 1 <= len(dilations) <= 16:
        raise WrongValue("{name} is {value}", name="resblock_dilation_sizes", value=shown(dilations))
    found.update(
        p_dropout=dropout, resblock=str(given["resblock"]), sampling_rate=rate,
        resblock_kernel_sizes=_wholes(given["resblock_kernel_sizes"], "resblock_kernel_sizes", 63),
        resblock_dilation_sizes=[_wholes(item, "resblock_dilation_sizes", 64) for item in dilations],
        upsample_rates=_wholes(given["upsample_rates"], "upsample_rates", 64, 8),
        upsample_kernel_sizes=_wholes(given["upsample_kernel_sizes"], "upsample_kernel_sizes", 128, 8),
    )
    hop = math.prod(found["upsample_rates"])
    if rate != 100 * hop:
        raise WrongValue("it names {rate} as the sample rate, its upsampling makes {hop} samples of a hundredth of a "
                         "second, which is {hertz} Hz", rate=shown(given["sampling_rate"]), hop=hop, hertz=100 * hop)
    return [found[name] for name in NAMES]


class Missing(KeyError):
    """A tensor that every network has is not among the shapes."""


def misfits(config: Sequence[Any], shapes: Mapping[str, Any], f0: bool) -> List[Text]:
    """What of a `checked` configuration the tensors contradict, such as "n_layers is 6, its tensors have 3"; or none.

    Every dimension of the network is compared, so that building it takes no more memory than its tensors.

    Raises:
        Missing: names a key that is not there.
    """
    given, found = dict(zip(NAMES, config)), tensors_say(shapes, f0)
    if "noise" in found:
        rates = given["upsample_rates"]
        strides = [math.prod(rates[at + 1:]) for at in range(len(rates))]
        given["noise"] = [1 if stride == 1 else 2 * stride for stride in strides]
    given["resblock_dilation_sizes"] = [len(item) for item in given["resblock_dilation_sizes"]]
    given["upsample_rates"] = len(given["upsample_rates"])
    return [Text("{name} is {value}, its tensors have {found}", name="upsample_rates" if name == "noise" else name,
                 value=shown(given[name]), found=shown(value)) for name, value in found.items() if given[name] != value]


def tensors_say(shapes: Mapping[str, Any], f0: bool) -> Dict[str, Any]:
    """What the shapes of a generator's tensors say of its configuration, by `NAMES` (of lists in lists, their lengths).

    Raises:
        Missing: as `misfits`.
    """
    def size(key: str, at: int) -> int:
        if key not in shapes or len(shapes[key]) <= at:
            raise Missing(key)
        return int(shapes[key][at])

    def count(pattern: str) -> int:
        number = 0
        while pattern.format(number) in shapes:
            number += 1
        return number

    encoder = "enc_p.encoder."
    hidden = size("enc_p.emb_phone.weight", 0)
    ups = max(1, count("dec.ups.{}.bias"))
    first = "convs1" if "dec.resblocks.0.convs1.0.weight_v" in shapes else "convs"
    blocks = max(1, count("dec.resblocks.{}." + first + ".0.weight_v") // ups)
    found: Dict[str, Any] = {
        "inter_channels": size("enc_p.proj.weight", 0) // 2, "hidden_channels": hidden,
        "filter_channels": size(encoder + "ffn_layers.0.conv_1.weight", 0),
        "n_heads": hidden // max(1, size(encoder + "attn_layers.0.emb_rel_k", 2)),
        "n_layers": count(encoder + "attn_layers.{}.conv_q.weight"),
        "kernel_size": size(encoder + "ffn_layers.0.conv_1.weight", 2),
        "resblock": "1" if first == "convs1" else "2",
        "resblock_kernel_sizes": [size(f"dec.resblocks.{at}.{first}.0.weight_v", 2) for at in range(blocks)],
        "resblock_dilation_sizes": [count(f"dec.resblocks.{at}.{first}." + "{}.weight_v") for at in range(blocks)],
        "upsample_rates": ups, "upsample_initial_channel": size("dec.conv_pre.weight", 0),
        "upsample_kernel_sizes": [size(f"dec.ups.{at}.weight_v", 2) for at in range(ups)],
        "gin_channels": size("emb_g.weight", 1),
    }
    if "enc_q.pre.weight" in shapes:
        found["spec_channels"] = size("enc_q.pre.weight", 1)
    if f0:
        found["noise"] = [size(f"dec.noise_convs.{at}.weight", 2) for at in range(ups)]
    return found


def read_config_json(path: Path) -> Dict[str, Any]:
    """A config.json of RVC's: bounded, typed and checked, also what training reads of it (win_length, mel_fmin, ...).

    Raises:
        UserError: it cannot be read, is no such file, or holds nonsense, which is named.
    """
    try:
        contents = bounded_json(path)
    except (OSError, ValueError) as error:
        reason = str(error)[:200]
        raise UserError("{path} cannot be read as JSON ({reason}): give the config.json that the base was trained with",
                        path=path, reason=reason) from None
    for part in ("data", "train", "model"):
        if not isinstance(contents, dict) or not isinstance(contents.get(part), dict):
            raise UserError("{path} is no RVC configuration (it lacks {error}): give the config.json that the base was "
                            "trained with", path=path, error=repr(part))
    try:
        contents["data"], contents["train"] = checked_data(contents["data"], contents["train"])
        values = checked(config_list(contents))
        hop = math.prod(values[NAMES.index("upsample_rates")])
        if contents["data"]["hop_length"] != hop:
            raise WrongValue("{name} is {value}, the upsampling makes {hop} samples a frame", name="hop_length",
                             value=shown(contents["data"]["hop_length"]), hop=hop)
    except (KeyError, TypeError) as error:
        raise UserError("{path} is no RVC configuration (it lacks {error}): give the config.json that the base was "
                        "trained with", path=path, error=error) from None
    except WrongValue as error:
        raise UserError("{path} is no usable configuration ({error}): give the config.json that the base was trained "
                        "with", path=path, error=error) from None
    return contents


def checked_data(data: Mapping[str, Any], train: Mapping[str, Any]) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """What RVC's spectrograms are made by, with whole numbers where 16000.0 is written: the parts "data" and "train".

    Raises:
        WrongValue: a value is nonsense. KeyError, TypeError: one is missing.
    """
    rate = whole(data["sampling_rate"], "sampling_rate", 192_000)
    length = whole(data["filter_length"], "filter_length", 16384, 64)
    found = {
        "sampling_rate": rate, "filter_length": length,
        "hop_length": whole(data["hop_length"], "hop_length", length),
        "win_length": whole(data["win_length"], "win_length", length),
        "n_mel_channels": whole(data["n_mel_channels"], "n_mel_channels", 512),
    }
    segment = whole(train["segment_size"], "segment_size", 10_000_000)
    low, high, loudest = data["mel_fmin"], data["mel_fmax"], data["max_wav_value"]
    high = rate / 2 if high is None else high
    for name, value in (("mel_fmin", low), ("mel_fmax", high), ("max_wav_value", loudest)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise WrongValue("{name} is {value}", name=name, value=shown(value))
    if not low < high <= rate / 2:
        raise WrongValue("mel_fmin is {low} and mel_fmax {high} at {rate} Hz", low=shown(low), high=shown(high),
                         rate=rate)
    if not loudest:
        raise WrongValue("{name} is {value}", name="max_wav_value", value=0)
    return {**data, **found}, {**train, "segment_size": segment}
