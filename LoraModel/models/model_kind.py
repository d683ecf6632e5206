"""What a model file is, recognised by its tensors' names and shapes and never by its own name. No tensor is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

from ..lora import tensors_hash
from ..messages import Text, UserError
from .checkpoint_file import damaged, open_checkpoint
from .model_form import ModelForm, normalise, rate_of, vocoder_of
from .tensor_refs import bad

BASE, VOICE, DISCRIMINATOR, ADAPTER, OTHER = "base", "voice", "discriminator", "adapter", "other"
_LORA = re.compile(r"(^|[._])lora_(A|B|up|down)([._]|$)|^lora_(te|unet)\d?_|\.hada_w\d|\.lokr_w")
_HOPS = {(16, 16, 4, 4): 400, (20, 16, 4, 4): 320, (24, 20, 4, 4): 480, (20, 8, 4, 4): 160}
"""Kernels of the upsampling layers -> samples a frame, where RVC's configurations leave no choice."""
GENERATOR_KEYS = ("enc_p.emb_phone.weight", "emb_g.weight")
"""What every generator has: matrices, as all that is read of their shapes takes for granted."""


@dataclass(frozen=True)
class ModelKind:
    """What a file is.

    Attributes:
        path: the file.
        kind: "base" (a generator with enc_q: adapters can be trained on it, and it converts), "voice" (a generator
            without: it converts, and adapters may lie on it), "discriminator", "adapter", or "other".
        version: "v1", "v2" or "". f0: whether it takes pitch, None where that has no meaning.
        sample_rate: Hz, None where it is not known. speakers: rows of the speaker table.
        base_hash: of an adapter, the hash of the base that it belongs to, else "".
        vocoder: the decoder's kind; adapters know "HiFi-GAN" alone, a generator with another is "other".
        problem: why the file cannot be read or used, to be shown to the user; None where it can.
    """

    path: Path
    kind: str
    version: str = ""
    f0: Optional[bool] = None
    sample_rate: Optional[int] = None
    speakers: Optional[int] = None
    base_hash: str = ""
    vocoder: str = ""
    problem: Optional[UserError] = None

    @property
    def is_generator(self) -> bool:
        """Whether it can be loaded as a base."""
        return self.kind in (BASE, VOICE)

    def tensors_hash(self) -> str:
        """`BaseInfo.base_hash` of a generator: reads all its tensors.

        Raises:
            UserError: it is no generator, or damaged.
        """
        no_base = UserError("{path} is no base: choose another file", path=self.path)
        if not self.is_generator:
            raise self.problem or no_base
        with open_checkpoint(self.path) as file:
            form = normalise(file.contents)
            if form is None:  # it has been replaced since it was looked at
                raise no_base
            weights = form.tensors(file.tensor)
        return tensors_hash((key, value) for key, value in weights.items() if not key.startswith("enc_q."))


def model_kind(path: Union[str, Path]) -> ModelKind:
    """Say what a file is. It takes some 50 ms; keep the answer by the file's path, time of change and size.

    Nothing is raised: `problem` of the result says what is wrong with the file.
    """
    path = Path(path)
    try:
        with open_checkpoint(path) as file:
            contents, form = file.contents, normalise(file.contents)
    except UserError as error:
        return ModelKind(path, OTHER, problem=error)
    except OSError as error:
        reason = error.strerror or str(error)
        return ModelKind(path, OTHER, problem=UserError("{path} cannot be read ({reason}): check its permissions",
                                                        path=path, reason=reason))
    except Exception:
        return _beyond_all_rules(path)
    return kind_of(path, contents, form)


def kind_of(path: Path, contents: Any, form: Optional[ModelForm]) -> ModelKind:
    """`model_kind` of a file that is open already. Nothing is raised either."""
    try:
        return _kind(path, contents, form)
    except Exception:
        return _beyond_all_rules(path)


def _beyond_all_rules(path: Path) -> ModelKind:
    """What a file is that nobody has thought of: one of a thousand in a folder, which must not take the list of all
    others with it."""
    return ModelKind(path, OTHER, problem=damaged(path, bad().why))


def _kind(path: Path, contents: Any, form: Optional[ModelForm]) -> ModelKind:
    if form is None:
        return ModelKind(path, OTHER, problem=_no_model(path, contents))
    names = form.weights
    if any(_LORA.search(name) for name in names):
        return _adapter(path, form)
    if all(key in names for key in GENERATOR_KEYS):
        return _generator(path, form)
    if any(re.match(r"discriminators\.\d+\.", name) for name in names):
        count = len({name.split(".")[1] for name in names if name.startswith("discriminators.")})
        return ModelKind(path, DISCRIMINATOR, {6: "v1", 9: "v2"}.get(count, ""))
    return ModelKind(path, OTHER, problem=_no_model(path, contents, form))


def _generator(path: Path, form: ModelForm) -> ModelKind:
    wrong = misshapen(path, form)
    if wrong is not None:
        return ModelKind(path, OTHER, problem=wrong)
    shapes, vocoder = form.shapes(), vocoder_of(form)
    phone, table = (shapes[key] for key in GENERATOR_KEYS)
    version = {256: "v1", 768: "v2"}.get(phone[1], "")
    f0 = "enc_p.emb_pitch.weight" in shapes
    rate = form.sample_rate or rate_from_shapes(shapes)
    kind, problem = BASE if any(name.startswith("enc_q.") for name in shapes) else VOICE, None
    if vocoder != "HiFi-GAN":
        kind, problem = OTHER, other_vocoder(path, vocoder)
    return ModelKind(path, kind, version, f0, rate, table[0], vocoder=vocoder, problem=problem)


def misshapen(path: Path, form: ModelForm) -> Optional[UserError]:
    """What to say of a file whose `GENERATOR_KEYS` are no matrices, or empty ones; None where they are as they should
    be."""
    for key in GENERATOR_KEYS:
        shape = tuple(form.weights[key].shape)
        if len(shape) != 2 or 0 in shape:
            return damaged(path, Text("{key} has shape {shape}", key=key, shape=shape))
    return None


def rate_from_shapes(shapes: Dict[str, Any]) -> Optional[int]:
    """The sample rate in Hz that the decoder's shapes tell, None where they do not. A frame is a hundredth of a second.

    The first layer's noise convolution spans two times the samples that the layers after it make of a frame.
    """
    kernels: List[int] = []
    while len(shapes.get(f"dec.ups.{len(kernels)}.weight_v", ())) == 3:
        kernels.append(int(shapes[f"dec.ups.{len(kernels)}.weight_v"][-1]))
    noise = shapes.get("dec.noise_convs.0.weight")
    if noise is not None and len(noise) == 3 and kernels:
        first = 10 if kernels[0] == 16 else kernels[0] // 2
        hop: Optional[int] = first * (noise[-1] // 2)
    else:
        hop = _HOPS.get(tuple(kernels))  # type: ignore[arg-type]
        bins = shapes.get("enc_q.pre.weight")
        if tuple(kernels) == (16, 16, 4, 4, 4) and bins is not None and len(bins) == 3:
            hop = {513: 320, 1025: 480}.get(int(bins[1]))
    return 100 * hop if hop and 8000 <= 100 * hop <= 192000 else None


def _adapter(path: Path, form: ModelForm) -> ModelKind:
    metadata = form.beside
    if metadata.get("format") != "rvc-lora":
        return ModelKind(path, OTHER, problem=UserError("{path} is a LoRA file of another program: an adapter for RVC "
                                                        "is trained by this one, choose such a file", path=path))
    version = metadata.get("rvc_version")
    return ModelKind(path, ADAPTER, version if version in ("v1", "v2") else "",
                     {"0": False, "1": True}.get(str(metadata.get("f0"))),
                     rate_of(metadata.get("sample_rate")), base_hash=str(metadata.get("base_hash", ""))[:64])


def other_vocoder(path: Path, vocoder: str) -> UserError:
    """What to say of a generator whose decoder RVC does not have."""
    return UserError("{path} was trained with {name}, and RVC has HiFi-GAN alone: choose a model that was trained "
                     "with HiFi-GAN", path=path, name=vocoder or Text("another vocoder"))


def _no_model(path: Path, contents: Any, form: Optional[ModelForm] = None) -> UserError:
    """What to say of a readable file that is no model of RVC's."""
    keys = set(contents) if isinstance(contents, dict) else set()
    names = form.weights if form is not None else {}
    if "param_groups" in keys or (form is None and "optimizer" in keys):
        what = Text("the state of an optimizer, without a model")
    elif any("w2v_encoder" in name or name.startswith(("feature_extractor.", "encoder.layers.")) for name in names):
        what = Text("a model of speech features (HuBERT or ContentVec)")
    elif any(name.startswith(("unet.encoder", "unet.intermediate")) for name in names):
        what = Text("a model of pitch (RMVPE)")
    elif any(name.startswith(("mpd.", "msd.")) for name in names):
        what = Text("a discriminator of another program")
    else:
        what = Text("no model of RVC's: it lacks the key enc_p.emb_phone.weight")
        return UserError("{path} is {reason}. Choose a generator (f0G….pth) or a voice", path=path, reason=what)
    return UserError("{path} is {reason}: choose a generator (f0G….pth) or a voice", path=path, reason=what)
