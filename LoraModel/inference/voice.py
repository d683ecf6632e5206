"""`Voice`: a base, adapters and a conversion behind four calls, for programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from ..files import check_file_place
from ..host import find_host
from ..lora import Adapter
from ..messages import Text, UserError
from ..models.voice_file import check_output, save_model
from .adapter_choice import find_adapter, pairs_of
from .audio import check_writable, read_audio, write_audio
from .convert import INPUT_RATE, ConvertOptions, check_index
from .converter import Converter, choose_device
from .marking import mark_of
from .model_loader import Adapters, VoiceLoader
from .sound import as_floats, check_length, in_scale, tell_once
from .transpose import AUTO, Transposition, choose_transposition

PathLike = Union[str, Path]


class Converted(NamedTuple):
    """What `Voice.convert` gives.

    Attributes:
        audio: (samples,) float32, full scale 1. sample_rate: Hz.
        transposition: the semitones that were shifted, and why in words.
    """

    audio: np.ndarray
    sample_rate: int
    transposition: Transposition


class Voice:
    """One base in memory, and voices that come and go on it in milliseconds. Use it from one thread at a time.

    Args:
        base: a pretrained generator or a full voice (.pth). A relative path is looked for in the working folder, then
            in the RVC checkout.
        rvc_root: the RVC checkout; None finds it: RVC_ROOT, the folder above LoraModel/, else the library `rvc`.
        device: "cpu", "cuda", "cuda:1" …; None takes the GPU where there is one.
        sample_rate: Hz, or text such as "40k", where two of RVC's configurations fit the base. config_json: a custom
            base's own configuration.

    Raises:
        UserError: no RVC, no such file, no base, or a sample rate that cannot be.

    >>> voice = Voice("f0G40k.pth")
    >>> voice.set_adapters({"anna.safetensors": 0.8})
    >>> voice.convert("in.wav", "out.wav").transposition.semitones
    -9
    >>> voice.merge("anna.pth")
    """

    def __init__(self, base: PathLike, rvc_root: Optional[PathLike] = None, device: Optional[str] = None,
                 sample_rate: Union[int, str, None] = None, config_json: Optional[PathLike] = None):
        self.host = find_host(rvc_root)
        self._device = choose_device(device, self.host)
        start = "cpu" if self.host.is_checkout else self._device or "cpu"
        self.loader = VoiceLoader(Path(base), self.host, start, sample_rate, config_json)
        self._converter: Optional[Converter] = None

    @property
    def sample_rate(self) -> int:
        """Of what `convert` gives, in Hz."""
        return self.loader.info.sample_rate

    @property
    def adapters(self) -> List[Tuple[str, float]]:
        """The names and strengths of the adapters that are applied; empty for the plain base."""
        return [(adapter.name, strength) for adapter, strength in self.loader.applied]

    def set_adapters(self, adapters: Adapters = (), force: bool = False, any_strength: bool = False,
                     noise: Optional[float] = None) -> None:
        """Make the voice base + the sum of strength * adapter; without arguments it is the plain base again, bit for
        bit.

        Args:
            adapters: an adapter; several, each at strength 1; pairs of adapter and strength; or {adapter: strength}.
                Each is a file, the folder of a training run, or what `load_adapter` gave.
            force: take adapters of another base of the same shapes. any_strength: take strengths beyond 0 to 1.5, from
                -100 to 100.
            noise: share of RVC's own noise to hear it with, 0.05 to 4: less is calmer and clearer, 1 is RVC's own;
                None for the adapters' own (0.45 as they are trained).

        Raises:
            UserError: no such file, another base, a strength or a noise that cannot be. The voice before stays.
        """
        chosen = [(one if isinstance(one, Adapter) else find_adapter(one, self.host.root), strength) for one,
                  strength in pairs_of(adapters)]
        self.loader.set_adapters(chosen, force, any_strength, noise)

    def convert(self, source: Union[PathLike, np.ndarray], output: Optional[PathLike] = None,
                transpose: Union[float, str] = AUTO, index: Optional[PathLike] = None, mark: bool = True,
                **options: Any) -> Converted:
        """Convert a recording.

        Args:
            source: a file, or (samples,) float32 at 16 kHz, full scale 1.
            output: the file to write (wav, flac, ogg, mp3); None writes none.
            transpose: semitones; "auto" shifts the recording to the pitch that the adapter tells of its voice.
            index: the index of the voice's features. mark: let the file say, in its comment field, that voice
                conversion made it. options: as `ConvertOptions` has them (index_rate, protect,
                f0_method, rms_mix_rate, speaker, seed).

        Raises:
            UserError: no such file, no audio, an option that cannot be; in a checkout, HuBERT is missing.
        """
        chosen = ConvertOptions(0.0 if transpose == AUTO else transpose, None, **options)  # type: ignore[arg-type]
        if index is not None:
            chosen = replace(chosen, index=self.host.resolve(index))
            check_index(str(chosen.index), self.loader.network.enc_p.emb_phone.in_features)
        if output is not None:
            check_writable(output)
            check_file_place(output, "output", [] if isinstance(source, np.ndarray) else [self.host.resolve(source)])
        if isinstance(source, np.ndarray):
            if source.ndim != 1:
                raise UserError("the recording has shape {shape}: give (samples,) at 16 kHz, or a file's path",
                                shape=source.shape)
            audio = as_floats(source, Text("the recording"), guess=True)
            if not np.isfinite(audio).all():
                raise UserError("the recording holds samples that are no numbers (NaN or infinity): check where they "
                                "come from")
            if audio.size:
                audio = in_scale(audio, Text("the recording"), tell_once)
        else:
            audio = read_audio(self.host.resolve(source), INPUT_RATE)
        check_length(audio, INPUT_RATE)
        shift = Transposition(chosen.transpose)
        if transpose == AUTO:
            shift = choose_transposition(self.loader, audio)
            chosen = replace(chosen, transpose=shift.semitones)
        result = self._ready()(audio, chosen)
        if output is not None:
            write_audio(output, result, self.sample_rate, mark_of(self.loader.title, mark))
        return Converted(result, self.sample_rate, shift)

    def _ready(self) -> Converter:
        """The converter; made when it is first needed, since in a checkout it loads HuBERT and moves the network."""
        if self._converter is None:
            applied, noise = self.loader.applied, self.loader.noise
            self.loader.unload()
            try:
                self._converter = Converter(self.loader, self._device)
            finally:
                self.loader.set_adapters(applied, any_strength=True, noise=noise)
        return self._converter

    def merge(self, output: PathLike, name: str = "", force: bool = False) -> Path:
        """Write the voice as an ordinary small RVC model (.pth), which RVC and other programs load.

        Args:
            output: a relative path lies in the RVC checkout, where there is one. name: what the model says of itself;
                "" for the adapters' names. force: overwrite.

        Returns:
            The file that was written.

        Raises:
            UserError: it exists, is the base, or does not end in .pth. OSError: as the file system gives it.
        """
        path = self.host.result(output)
        check_output(path, force, self.loader.info.path)
        save_model(path, self.loader.as_model(name))
        return path
