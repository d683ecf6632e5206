"""TrainConfig: all settings of a training run, from the command line, a settings file or code."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Dict, Optional, Union

from ..lora import LoRAConfig
from ..lora.adapter_metadata import checked_field
from ..messages import UserError, listing
from ..models import DEFAULT_PRESET
from ..models.prior_noise import check_share
from ..names import bare, shown
from .settings_file import own_names, unknown_key

PRECISIONS = ("fp32", "bf16", "fp16")
MOST, MOST_WHOLE = 10**6, 10**12
"""Of a number, and of a whole number."""
AUTO = "auto"
"""For `epochs`: train until nothing improves."""


@dataclass
class TrainConfig:
    """One training run.

    Attributes:
        base_model: pretrained generator with enc_q.
        data_dir: RVC experiment folder.
        output_dir: where the run is written.
        name: of the voice; the adapter file takes it. Empty: the experiment folder's name.
        base_d: pretrained discriminator to train against; None trains without one.
        preset: layers and ranks, by name.
        lora_rank: one rank for all layers of the preset; None leaves the preset's own.
        lora_alpha: one alpha for all layers, whose weights are scaled by alpha / rank; None keeps the preset's
            proportion.
        lora: layers and ranks as a LoRAConfig's dictionary, in place of the three before.
        epochs: passes over the training clips; "auto" ends when nothing improves (`schedule.Auto`).
        batch_size: clips a step.
        lr: peak learning rate.
        warmup_steps: steps of linear warm-up; after it the rate falls along a cosine.
        lr_final: the rate at the end of that cosine, over the peak.
        lora_plus: B's learning rate over that of the rest (LoRA+).
        ema_decay: decay of the running average of the adapter that is evaluated and saved; 0 saves the raw weights.
        save_every: epochs between saves, each with a held-out evaluation; with epochs "auto" times ten steps.
        patience: stop after this many saves without a better held-out loss; 0 never does. With epochs "auto" the fall
            of the rate begins then, and 0 is four saves.
        valid_fraction: share of the clips kept out of training.
        valid_clips: at most this many of them are evaluated.
        judges: let networks judge the saves of a run of two minutes or more, where they are installed (`judge.py`).
        device: "auto", "cpu", "cuda", "cuda:1" …; auto takes CUDA where there is one.
        precision: number format of the networks' arithmetic, one of PRECISIONS.
        seed: of all random numbers, below 2**32.
        speaker: row of the base's speaker table that the voice is trained on.
        speaker_id: take the clips of this speaker of the filelist; None where there is one alone.
        init_speaker: row of the base's to start from; -1 tries them all.
        segment_frames: frames of audio that the decoder is trained on; 0 takes the experiment's own segment_size.
        decoder_every: the decoder's part is trained at every k-th step, the prior's at all.
        d_parts: sub-discriminators that a step takes, drawn at random; 0 takes all.
        d_every: the discriminator learns at every k-th step.
        d_frozen: how many of its lower layers do not learn.
        c_mel: weight of the log-mel loss, as RVC's own.
        c_kl: weight of the KL loss, as RVC's own.
        c_stft: weight of the multi-resolution STFT loss.
        c_hold: weight of the log-mel distance of the decoder's sound to the base's own; 0 leaves it out.
        noise: share of RVC's own noise that the voice is heard with; 1 is RVC's own.
        author: of the voice, a text that the adapter file carries.
        license: of the voice, likewise.
        notes: anything else, likewise.
        tags: words to find the voice by, with commas between them.
        language: what it speaks, a code such as en or zh-CN.
        consent: whether the speaker agreed: "yes", "no", "own voice" or "synthetic".
        consent_note: how, or where that is written.
    """

    base_model: str = ""
    data_dir: str = ""
    output_dir: str = ""
    name: str = ""
    base_d: Optional[str] = None
    preset: str = DEFAULT_PRESET
    lora_rank: Optional[int] = None
    lora_alpha: Optional[float] = None
    lora: Optional[Dict[str, Any]] = None
    epochs: Union[int, str] = AUTO
    batch_size: int = 4
    lr: float = 3e-3
    warmup_steps: int = 10
    lr_final: float = 0.1
    lora_plus: float = 1.0
    ema_decay: float = 0.95
    save_every: int = 1
    patience: int = 0
    valid_fraction: float = 0.1
    valid_clips: int = 6
    judges: bool = True
    device: str = "auto"
    precision: str = "fp32"
    seed: int = 1234
    speaker: int = 0
    speaker_id: Optional[int] = None
    init_speaker: int = -1
    segment_frames: int = 0
    decoder_every: int = 1
    d_parts: int = 0
    d_every: int = 1
    d_frozen: int = 0
    c_mel: float = 45.0
    c_kl: float = 1.0
    c_stft: float = 5.0
    c_hold: float = 0.0
    noise: float = 0.45
    author: str = ""
    license: str = ""
    notes: str = ""
    tags: str = ""
    language: str = ""
    consent: str = ""
    consent_note: str = ""

    def __post_init__(self) -> None:
        if self.epochs != AUTO:
            self._at_least("epochs", 1)
        for key in ("batch_size", "save_every", "valid_clips", "decoder_every", "d_every"):
            self._at_least(key, 1)
        for key in ("warmup_steps", "patience", "speaker", "segment_frames", "d_parts", "d_frozen"):
            self._at_least(key, 0)
        self._at_least("init_speaker", -1)
        if self.speaker_id is not None:
            self._at_least("speaker_id", 0)
        self._at_least("seed", 0)
        if self.seed >= 2**32:
            raise UserError("seed={seed} must be below {value}", seed=self.seed, value=2 ** 32)
        for key in ("lr", "lr_final", "lora_plus", "ema_decay", "valid_fraction", "c_mel", "c_kl", "c_stft", "c_hold"):
            self._number(key)
        for key in ("base_model", "data_dir", "output_dir", "name", "preset", "device", "precision", "author",
                    "license", "notes", "tags", "language", "consent", "consent_note"):
            self._text(key, getattr(self, key))
        for key in ("language", "consent"):
            checked_field(key, getattr(self, key))
        if not isinstance(self.judges, bool):
            raise UserError("judges={judges!r} must be true or false", judges=self.judges)
        if self.base_d is not None:
            self._text("base_d", self.base_d)
        if self.lora is not None and not isinstance(self.lora, dict):
            raise UserError("lora={lora} must be an object such as {{\"r\": 4, \"targets\": {{\"ups\": true}}}}",
                            lora=bare(self.lora))
        check_share(self.noise)
        if not self.lr > 0:
            raise UserError("lr={lr!r} must be above 0", lr=self.lr)
        if not 0 < self.valid_fraction < 1:
            raise UserError("valid_fraction={valid_fraction!r} must lie between 0 and 1 (0.1 keeps a tenth of the "
                            "clips out)", valid_fraction=self.valid_fraction)
        if not 0 <= self.ema_decay < 1:
            raise UserError("ema_decay={ema_decay!r} must be at least 0 and below 1", ema_decay=self.ema_decay)
        if self.precision not in PRECISIONS:
            raise UserError("precision {precision} is not known: choose from {precisions}",
                            precision=shown(self.precision), precisions=listing(PRECISIONS))
        self.lora_config()
        if self.lora is not None and self.lora_alpha is not None:  # `lora` overrides it, and it must be right as well
            LoRAConfig(lora_alpha=self.lora_alpha)

    def _number(self, key: str) -> None:
        value = getattr(self, key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MOST:
            raise UserError("{key}={value} must be a number from 0 to {most}", key=key, value=bare(value), most=MOST)

    @staticmethod
    def _text(key: str, value: Any) -> None:
        if not isinstance(value, str):
            raise UserError("{key}={value} must be a text", key=key, value=bare(value))
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise UserError("{key}={value} holds characters that are no text: write it anew", key=key,
                            value=shown(value)) from None

    def _at_least(self, key: str, least: int) -> None:
        value = getattr(self, key)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST_WHOLE:
            raise UserError("{key}={value} must be a whole number of at least {least}, at most {most}", key=key,
                            value=bare(value), least=least, most=MOST_WHOLE)

    def lora_config(self) -> LoRAConfig:
        """The layers and ranks that this run adapts."""
        if self.lora is not None:
            return LoRAConfig.from_dict(self.lora)
        return LoRAConfig.from_preset(self.preset, self.lora_rank, self.lora_alpha)

    def passes(self) -> int:
        """`epochs` as a number; 0 where it is not known before."""
        return self.epochs if isinstance(self.epochs, int) else 0

    def to_dict(self) -> Dict[str, Any]:
        """Plain types only; `from_dict` gives an equal configuration back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Dict[str, Any]) -> TrainConfig:
        """Of settings by their names; kohya's and PEFT's names for them are taken, too (`settings_file.ALIASES`).

        Raises:
            UserError: an unknown key (the nearest known one is proposed), a setting given twice, a value that cannot
                be.
        """
        known = [f.name for f in fields(cls)]
        values = own_names(values)
        for key in values:
            if key not in known:
                raise unknown_key(key, known)
        return cls(**values)

