"""A few seconds of a voice, small enough to travel in its adapter's own file: the voice says a bundled sentence.

Stored as an Ogg file with Opus (RFC 7845), where libsndfile writes that, else as FLAC of what fits; at most
`MAX_PREVIEW` bytes. Equal voices give equal bytes.
"""

from __future__ import annotations

import base64
import io
import struct
from pathlib import Path
from typing import Callable, Optional, Tuple

import librosa
import numpy as np
import soundfile

from ..host import Host
from ..lora.adapter_file import edit_metadata, load_adapter
from ..lora.adapter_metadata import MAX_PREVIEW
from ..messages import UserError, tr
from ..models import Base
from .audio import read_audio
from .convert import INPUT_RATE, ConvertOptions
from .converter import Converter
from .model_loader import VoiceLoader
from .sound import tell_once
from .transpose import choose_transposition

SENTENCE = Path(__file__).resolve().parents[1] / "demo" / "recordings" / "source" / "01.flac"
"""What is spoken: four seconds, by a synthetic voice."""
SECONDS = 5.0
OPUS_RATE, FLAC_RATE = 24000, 16000


class Previewer:
    """Lets adapters say the sentence; a base is read once for all of its adapters.

    Args:
        device: as `Converter` takes it.
    """

    def __init__(self, host: Host, device: Optional[str] = None):
        self.host, self.device = host, device
        self._last: Optional[Tuple[Path, VoiceLoader, Converter]] = None

    def add(self, adapter: Path, base: Path, read: Optional[Callable[[], Base]] = None) -> int:
        """Put the preview into an adapter's file, in place of an older one. -> its bytes.

        Args:
            read: gives the base, where its file alone does not tell all of its configuration.

        Raises:
            UserError: a file cannot be read or written, the adapter is of another base, or nothing can be converted
                here (no HuBERT in the checkout; a v1 base without a checkout).
        """
        voice, converter = self._ready(base, read)
        voice.set_adapters([(load_adapter(adapter), 1.0)])
        try:
            sound = read_audio(SENTENCE, INPUT_RATE)
            shift = choose_transposition(voice, sound).semitones
            made = encoded(converter(sound, ConvertOptions(transpose=shift)), voice.info.sample_rate)
        finally:
            voice.unload()
        edit_metadata(adapter, {"preview": base64.b64encode(made).decode()})
        return len(made)

    def try_to_add(self, adapter: Path, base: Path, read: Optional[Callable[[], Base]] = None) -> int:
        """As `add`; where there can be no preview it says why and leaves the file as it is. -> its bytes, or 0."""
        try:
            return self.add(adapter, base, read)
        except (UserError, ImportError, OSError, RuntimeError) as error:
            why = error if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            tell_once(tr("note: {adapter} carries no preview ({why})", adapter=adapter, why=why))
            return 0

    def _ready(self, base: Path, read: Optional[Callable[[], Base]]) -> Tuple[VoiceLoader, Converter]:
        if self._last is None or self._last[0] != base:
            self._last = None  # one base in memory at a time
            voice = VoiceLoader(base if read is None else read(), self.host)
            self._last = (base, voice, Converter(voice, self.device))
        return self._last[1:]


def encoded(sound: np.ndarray, rate: int) -> bytes:
    """A sound's first seconds as a file of at most `MAX_PREVIEW` bytes.

    sound: (samples,) at `rate` Hz, full scale 1.
    """
    sound = np.clip(np.asarray(sound[: int(SECONDS * rate)], dtype=np.float32), -1.0, 1.0)
    if "OPUS" in soundfile.available_subtypes("OGG"):
        made = steady(_file(sound, rate, "OGG", "OPUS", OPUS_RATE))
        if len(made) <= MAX_PREVIEW:
            return made
    made = _file(sound, rate, "FLAC", "PCM_16", FLAC_RATE)
    while len(made) > MAX_PREVIEW:
        sound = sound[: int(len(sound) * min(0.95 * MAX_PREVIEW / len(made), 0.9))]
        made = _file(sound, rate, "FLAC", "PCM_16", FLAC_RATE)
    return made


def _file(sound: np.ndarray, rate: int, kind: str, subtype: str, wanted: int) -> bytes:
    if rate != wanted:
        sound = np.clip(librosa.resample(sound, orig_sr=rate, target_sr=wanted), -1.0, 1.0)
    stream = io.BytesIO()
    with soundfile.SoundFile(stream, "w", wanted, 1, subtype, format=kind) as file:
        file.write(sound)
    return stream.getvalue()


def steady(ogg: bytes) -> bytes:
    """An Ogg file with the number 1 for its stream, where libsndfile draws one at random (RFC 3533, section 6)."""
    pages, at = [], 0
    while at < len(ogg):
        segments = ogg[at + 26]
        size = 27 + segments + sum(ogg[at + 27:at + 27 + segments])
        page = bytearray(ogg[at:at + size])
        page[14:18], page[22:26] = struct.pack("<I", 1), bytes(4)
        page[22:26] = struct.pack("<I", _crc(bytes(page)))
        pages.append(bytes(page))
        at += size
    return b"".join(pages)


def _crc(data: bytes) -> int:
    """Ogg's checksum: CRC-32 of polynomial 0x04c11db7, not reflected, from 0."""
    value = 0
    for byte in data:
        value = (value << 8 & 0xFFFFFFFF) ^ _TABLE[value >> 24 ^ byte]
    return value


def _entry(index: int) -> int:
    value = index << 24
    for _ in range(8):
        value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value


_TABLE = [_entry(index) for index in range(256)]
