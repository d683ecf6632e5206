"""Which base a full voice was fine-tuned from: recognised by its tensors, of which some hardly move in fine-tuning.

Of two networks that were trained apart, tensors of one name are as far from each other as any two of their size: their
distance, in units of their own size, is about 1.4. Fine-tuning moves the large tensors by a tenth or so. The rows of
the speaker table that the voice does not use get no gradient at all and are the same but for weight decay.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Union

import torch
from torch import Tensor

from ..lora.functional import weight_norm_compose
from ..messages import Text, UserError
from ..models import model_kind
from ..models.checkpoint_file import open_checkpoint
from ..models.model_form import ModelForm
from ..models.model_kind import BASE
from ..models.model_utils import generator_form

STEADY = (
    "emb_g.weight",
    "enc_p.emb_phone.weight",
    "enc_p.encoder.attn_layers.0.conv_v.weight",
    "enc_p.encoder.ffn_layers.0.conv_1.weight",
    "enc_p.proj.weight",
    "flow.flows.0.pre.weight",
    "dec.conv_pre.weight",
)
"""Tensors that are compared; `dec.ups.0` beside them, as its effective weight."""
NEAR = 0.5
"""Median distance below which a voice is of a base. Measured on the demo's bases: a voice and its own base 0.024, and
the base that was trained on from that one 0.29."""
CLEAR = 1.5
"""The second best must be so many times as far for the first to be called sure."""
ENDINGS = (".pth", ".safetensors", ".pt")


class Candidate(NamedTuple):
    """A base that may be a voice's. distance: median over tensors, None where it is of another shape; why: what
    differs then."""

    path: Path
    distance: Optional[float]
    why: Union[UserError, str] = ""


class Match(NamedTuple):
    """What was found. sure: near, and no other base as near. candidates: the nearest first, then those of other
    shapes."""

    path: Path
    distance: float
    sure: bool
    candidates: List[Candidate]


class Fingerprint(NamedTuple):
    """What of a generator is compared. shapes: of all its tensors without enc_q. tensors: of STEADY, fp32."""

    shapes: Dict[str, Any]
    tensors: Dict[str, Tensor]


def fingerprint(path: Path) -> Fingerprint:
    """Read what is compared; the other tensors are not read.

    Raises:
        UserError: no generator; the message says what the file is instead.
    """
    with open_checkpoint(path) as file:
        form = generator_form(path, file.contents)
        shapes = {name: tuple(shape) for name, shape in form.shapes().items() if not name.startswith("enc_q.")}
        wanted = [name for name in form.weights if name in STEADY or name.startswith("dec.ups.0.weight")]
        found = ModelForm(
            {name: form.weights[name] for name in wanted}, "", {}, [n for n in form.folded if n in wanted]
        ).tensors(file.tensor)
    tensors = {name: tensor.float() for name, tensor in found.items() if name in STEADY}
    g, v = found.get("dec.ups.0.weight_g"), found.get("dec.ups.0.weight_v")
    if g is not None and v is not None:
        tensors["dec.ups.0"] = weight_norm_compose(g, v)
    return Fingerprint(shapes, tensors)


def distances(voice: Fingerprint, base: Fingerprint) -> Dict[str, float]:
    """|voice - base| / |base| of each tensor that is compared; of the speaker table without row 0, which the voice
    has trained."""
    found = {}
    for name, mine in voice.tensors.items():
        theirs = base.tensors.get(name)
        if theirs is None:
            continue
        if name == "emb_g.weight":
            rows = min(len(mine), len(theirs))
            if rows < 2:
                continue
            mine, theirs = mine[1:rows], theirs[1:rows]
        if mine.shape == theirs.shape:
            found[name] = float((mine - theirs).norm() / theirs.norm().clamp(min=1e-9))
    return found


def difference_of_shape(voice: Fingerprint, base: Fingerprint) -> Optional[UserError]:
    """What of the two has another shape, as parts of a sentence; None where they fit. The number of speakers may
    differ."""
    for name in sorted(set(voice.shapes) | set(base.shapes)):
        mine, theirs = voice.shapes.get(name), base.shapes.get(name)
        if name == "emb_g.weight" and mine is not None and theirs is not None:
            mine, theirs = mine[1:], theirs[1:]
        if mine != theirs:
            return UserError("{name} is {theirs} in the base and {mine} in the voice", name=name, theirs=_shape(theirs),
                             mine=_shape(mine))
    return None


def _shape(shape: Optional[Sequence[int]]) -> str:
    return "-" if shape is None else " x ".join(map(str, shape)) or "1"


def bases_in(place: Path) -> List[Path]:
    """The model files of a folder and of those below it, or the one file.

    Raises:
        UserError: there is none.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise UserError("there is no base {place}: check the path", place=place)
    found = sorted(
        file
        for file in place.rglob("*")
        if file.suffix.lower() in ENDINGS and file.is_file() and not file.name.startswith(".")
    )
    if not found:
        raise UserError("{place} holds no model files: give the folder of the bases (f0G40k.pth, …), or one of them",
                        place=place)
    return found


class Bases:
    """The generators of a folder, each read once.

    Raises:
        UserError: there is none; where one file was named, what it is instead.
    """

    def __init__(self, place: Path):
        self.place = place
        self._known: Dict[Path, Fingerprint] = {}
        files = bases_in(place)
        for file in files:
            if place.is_file():
                self._known[file] = fingerprint(file)
            elif model_kind(file).is_generator:
                try:
                    self._known[file] = fingerprint(file)
                except UserError:
                    continue
        if not self._known:
            raise UserError("{place} holds {count} model files and no base among them: a base is a generator, such as "
                            "f0G40k.pth", place=place, count=len(files))

    def match(self, voice: Path, force: bool = False) -> Match:
        """The base that a voice was fine-tuned from.

        Args:
            force: take the nearest base that fits its shapes, however far.

        Raises:
            UserError: the voice cannot be read, no base has its shapes, or it is of none of them; the message
                gives the figures.
        """
        mine = fingerprint(voice)
        candidates = []
        for path, base in self._known.items():
            if path.resolve() == voice.resolve():
                continue
            differs = difference_of_shape(mine, base)
            if differs is None:
                middle = torch.tensor(sorted(distances(mine, base).values())).median()
                candidates.append(Candidate(path, float(middle)))
            else:
                candidates.append(Candidate(path, None, differs))
        candidates.sort(key=lambda one: (one.distance is None, one.distance or 0.0, str(one.path)))
        fitting = [one for one in candidates if one.distance is not None]
        if not candidates:  # the file was given twice
            if model_kind(voice).kind == BASE:
                raise UserError("{voice_name} is the base itself, no full voice: give a voice that was trained from it",
                                voice_name=voice.name)
            raise UserError("{voice_name} is no base of its own: give --base_model the base that it was trained from",
                            voice_name=voice.name)
        if not fitting:
            one = candidates[0]
            why = Text(" ({name}: {why})", name=one.path.name, why=one.why)
            raise UserError("{voice_name} has the shape of no base in {place}{why}: give the base that it was trained "
                            "from", voice_name=voice.name, place=self.place, why=why)
        best = fitting[0]
        if best.distance > NEAR and not force:
            listed = ", ".join(f"{one.path.name} {one.distance:.2f}" for one in fitting[:5])
            raise UserError("{voice_name} was not fine-tuned from these bases: its distance to them is {listed} (a "
                            "voice and its own base: below {near}, unrelated networks: about 1.4). Give its own base, "
                            "or pass --force", voice_name=voice.name, listed=listed, near=NEAR)
        others = [
            one.distance
            for one in fitting[1:]
            if one.distance is not None and abs(one.distance - best.distance) > 1e-6
        ]  # no copies
        sure = best.distance <= NEAR and (not others or others[0] > CLEAR * max(best.distance, 1e-3))
        return Match(best.path, best.distance, sure, candidates)
