"""Audio files in and out: whatever libsndfile or ffmpeg reads; wav, flac, ogg and mp3 written."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, List, Optional, Tuple, Union

import librosa
import numpy as np
import soundfile

from ..files import atomic_file, system_name
from ..lora.foreign_file import what_it_is
from ..messages import Text, UserError, tr
from ..places import near_words
from .marking import id3
from .sound import Tell, channels_used, in_scale, tell_level, tell_once

FORMATS: Dict[str, Tuple[str, str]] = {
    ".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
"""File endings that can be written, with libsndfile's names for them."""

LONGEST = 12 * 3600
"""Seconds of one recording: more is a header's invention, or wants cutting."""
RATES = (1000, 768000)
"""Samples a second that sound can have."""
UNKNOWN = 2**63 - 1
"""What libsndfile calls the length of a stream whose header does not tell it."""

CONTAINERS = ("aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,gsm,iff,loas,matroska,mov,mp3,mpc,"
              "mpc8,mpeg,mpegts,ogg,oma,rm,shn,tak,tta,voc,w64,wav,wv,xwma")
"""What ffmpeg may take a file for, as it names them: what holds the sound itself. A playlist (HLS, DASH, concat, SDP)
under the name of a recording would have it read other files of the machine."""

_SOUND = (b"RIFF", b"fLaC", b"OggS", b"ID3\x02", b"ID3\x03", b"ID3\x04", b"\0\0\0\0")
"""First bytes of recordings, and of those that begin with zeros."""
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
NOT_AUDIO = frozenset(
    f".{ending}" for ending in (
        "txt json md csv npy npz index pth pt ckpt onnx safetensors log ini db zip 7z rar tar gz jpg jpeg png gif bmp "
        "webp tif tiff svg ico pdf doc "
        "docx xls xlsx rtf asd cue lrc srt vtt ass m3u m3u8 pls nfo sfv md5 xml html htm url lnk yaml yml toml py sh "
        "bat exe dll mid midi lab "
        "textgrid pkf pek sfk sfap0 sfl reapeaks reapindex rpp als flp aup aup3 bak tmp part crdownload").split())
"""Endings of files that lie beside recordings and are no audio: texts, pictures, and what audio editors leave."""


class _Recording(soundfile.SoundFile):
    """A recording that is read from its start to its end.

    soundfile seeks after each block. Where the header does not tell the length (a FLAC that was written to a pipe),
    libsndfile cannot seek to the end, so that the last block would be lost: such a file is read without.

    Attributes:
        damaged: whether a block of it could not be read.
    """

    damaged = False

    def seekable(self) -> bool:
        return self.frames != UNKNOWN and super().seekable()


def read_audio(path: Union[str, Path], rate: int, tell: Tell = tell_once, longest: float = LONGEST) -> np.ndarray:
    """Read any audio file as mono: the channels that carry the sound are averaged, or the loudest taken
    where they cancel each other.

    Args:
        rate: the sample rate wanted, in Hz.
        tell: takes notes on what was put right (scale, offset) or cannot be (clipping, a file cut short).
        longest: seconds; what is longer is refused before it is taken into memory.

    Returns:
        (samples,) float32, full scale 1.

    Raises:
        UserError: the file is missing, empty, no audio, too long, of an impossible rate, or holds samples that are not
            finite.
    """
    path = Path(path)
    if not path.is_file():
        near = near_words(path)
        raise UserError("there is no audio file {path}{near}: check the path", path=path, near=near)
    try:
        audio, found = _read_with_libsndfile(path, tell, longest)
    except UserError:
        raise
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError, ValueError) as error:
        audio, found = _read_with_ffmpeg(path, rate, _short(error), tell, longest), rate
    if audio.size == 0:
        raise UserError("{path} holds no sound: choose another file", path=path)
    if not np.isfinite(audio).all():
        raise UserError("{path} holds samples that are not numbers: export it again from its source", path=path)
    audio = in_scale(audio, path, tell)
    tell_level(audio, path, tell)
    if found != rate:
        audio = librosa.resample(audio, orig_sr=found, target_sr=rate)
    return np.ascontiguousarray(audio, dtype=np.float32)


def _read_with_libsndfile(path: Path, tell: Tell, longest: float) -> Tuple[np.ndarray, int]:
    """(samples,) and their rate. Memory goes to samples that are there, not to those that the header promises."""
    with _Recording(system_name(path)) as file:
        found, promised = file.samplerate, file.frames
        _check_claim(path, found, 0, longest)
        used = channels_used(*_energies(path, longest)) if file.channels > 1 else np.array([0])
        parts, count = [], 0
        for block in _blocks(file):
            parts.append(block[:, used].mean(axis=1) if file.channels > 1 else block[:, 0])
            count += len(block)
            _check_claim(path, found, count, longest)
    if promised and not count:
        raise ValueError("its header promises samples that are not there")  # ffmpeg looks at the sound itself
    if promised == UNKNOWN:
        if file.damaged and count:
            tell(tr("note: {path} is cut short or damaged: {count:.1f} s of it can be read", path=path,
                    count=count / found))
    elif max(promised - count, _missing_bytes(path)) > 0 and count:
        tell(tr("note: {path} is cut short or damaged: {count:.1f} s of it can be read, its header says that there is "
                "more", path=path, count=count / found))
    return np.concatenate(parts) if parts else np.zeros(0, np.float32), found


def _energies(path: Path, longest: float) -> Tuple[np.ndarray, float]:
    """(channels,) the energy of each channel, and that of their mean."""
    with _Recording(system_name(path)) as file:
        energy, mixed, count = np.zeros(file.channels), 0.0, 0
        for block in _blocks(file):
            energy += np.square(block, dtype=np.float64).sum(axis=0)
            mixed += float(np.square(block.mean(axis=1), dtype=np.float64).sum())
            count += len(block)
            _check_claim(path, file.samplerate, count, longest)
    return energy, mixed


def _wrong_claim(rate: int, samples: int, longest: float = LONGEST) -> Optional[UserError]:
    """What is wrong with a header that claims `samples` at `rate` Hz: None where sound can be so."""
    if not RATES[0] <= rate <= RATES[1]:
        return UserError("its header says {rate} samples a second, which no recording has: export it again from its "
                         "source",
                         rate=rate)
    if longest * rate < samples != UNKNOWN:
        return (UserError("it is longer than {longest} hours: cut it into parts", longest=longest // 3600)
                if longest >= 3600 else UserError("it is longer than {longest} s: cut it into parts", longest=longest))
    return None


def _check_claim(path: Path, rate: int, samples: int, longest: float) -> None:
    problem = _wrong_claim(rate, samples, longest)
    if problem is not None:
        raise UserError("{name}: {words}", name=path, words=problem)


def _blocks(file: _Recording) -> Iterator[np.ndarray]:
    """(samples, channels) float32 each, up to the last that can be read: where a block is damaged, ever smaller ones
    are tried."""
    at, size = 0, 1 << 17
    while size:
        try:
            block = file.read(size, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError):
            size //= 2
            file.damaged = True
            try:
                file.seek(at)
            except (soundfile.LibsndfileError, RuntimeError):
                return
            continue
        if not len(block):
            return
        at += len(block)
        yield block


def _missing_bytes(path: Path) -> int:
    """How many bytes of sound a WAV file's header promises beyond the file's end; libsndfile does not tell. 0 for
    other formats."""
    size = path.stat().st_size
    with open(str(path), "rb") as stream:
        for name, start, length in _chunks(stream):
            if name == b"data":
                # 0 and the largest numbers: written by programs that could not go back to the header
                return 0 if length in (0, 0x7FFFFFFF) or length >= 0xFFFFF000 else max(0, start + length - size)
    return 0


def _chunks(stream: BinaryIO) -> Iterator[Tuple[bytes, int, int]]:
    """(name, where it starts, its bytes as its header says) of each chunk of a WAV file; none of other formats.

    Titles and comments stand in chunks before the sound and may hold any bytes, those of another chunk's name too.
    """
    if stream.read(4) != b"RIFF" or stream.seek(4, 1) != 8 or stream.read(4) != b"WAVE":
        return
    at = 12
    for _ in range(100):
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            return
        length = int.from_bytes(head[4:], "little")
        yield head[:4], at + 8, length
        at += 8 + length + length % 2


def _wav_samples(data: bytes) -> np.ndarray:
    """(samples, channels) float32 of ffmpeg's WAV of 32 bit numbers; no sample where it is none.

    A pipe cannot be gone back in: the sound's length is not in the header, it goes up to the end.
    """
    channels = 0
    for name, start, length in _chunks(io.BytesIO(data)):
        if name == b"fmt " and length >= 4:
            channels = int.from_bytes(data[start + 2:start + 4], "little")
        elif name == b"data" and channels:
            count = (len(data) - start) // (4 * channels)
            return np.frombuffer(data, "<f4", count * channels, start).reshape(count, channels)
    return np.zeros((0, 1), np.float32)


def _what_else(path: Path) -> Optional[Text]:
    """What a file is that was given as a recording and is a web page, a pointer, an archive, ...; None where its first
    bytes are a recording's, or say nothing."""
    try:
        with open(str(path), "rb") as stream:
            start = stream.read(4096)
    except OSError:
        return None
    return what_it_is(start) if start and start[:4] not in _SOUND else None


def _refuse_other(path: Path) -> None:
    other = _what_else(path)
    if other is not None:
        raise UserError("{path} is no recording ({reason})", path=path, reason=other)


def _short(error: BaseException) -> str:
    """What libsndfile says, without the path that the message names anyway."""
    return str(error).rpartition(": ")[2].rstrip(".")


def _read_with_ffmpeg(path: Path, rate: int, why: str, tell: Tell, longest: float) -> np.ndarray:
    program = shutil.which("ffmpeg")
    if program is None:
        _refuse_other(path)
        raise UserError("{path} cannot be read ({why}): convert it to wav or flac, or install ffmpeg, which reads "
                        "more formats", path=path, why=why)
    done = _ffmpeg(program, path, "-t", str(longest + 1), "-f", "wav", "-c:a", "pcm_f32le", "-ar", str(rate))
    reason = (done.stderr.decode("utf-8", "replace").strip().splitlines() or [why])[-1]
    samples = _wav_samples(done.stdout)
    if done.returncode != 0 or not len(samples):
        _refuse_other(path)
        raise UserError("{path} is no audio that libsndfile or ffmpeg can read ({reason}): choose another file",
                        path=path, reason=reason)
    _check_claim(path, rate, len(samples), longest)
    if done.stderr.strip():
        tell(tr("note: {path} is damaged in places ({reason}): {count:.1f} s of it could be read", path=path,
                reason=reason[:200], count=len(samples) / rate))
    mixed = float(np.square(samples.mean(axis=1), dtype=np.float64).sum())
    return samples[:, channels_used(np.square(samples, dtype=np.float64).sum(axis=0), mixed)].mean(axis=1)


def _ffmpeg(program: str, path: Path, *output: str) -> subprocess.CompletedProcess:
    """ffmpeg's sound of a file on its standard output, and nothing of any other file.

    "file:" keeps a name such as "concat:x" from being taken for one of its protocols.
    """
    command = [program, "-nostdin", "-v", "error", "-format_whitelist", CONTAINERS, "-i", f"file:{path.absolute()}",
               "-vn", *output, "-"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def problem_of(path: Union[str, Path]) -> Optional[UserError]:
    """Why a file can't be read as audio, by its header and its first tenth of a second: None where it can."""
    path = Path(path)
    try:
        with _Recording(system_name(path)) as file:
            claim = _wrong_claim(file.samplerate, file.frames)  # RVC's scripts believe it, and ask for that much memory
            if claim is not None:
                return claim
            if file.frames > 0 and len(file.read(max(1, file.samplerate // 10), dtype="float32", always_2d=True)):
                return None
            return UserError("it holds no sound")
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError, ValueError) as error:
        why = _short(error)
    program = shutil.which("ffmpeg")
    done = None if program is None else _ffmpeg(program, path, "-t", "0.1", "-f", "f32le", "-ac", "1")
    if done is not None and len(done.stdout) >= 4:
        return None
    other = _what_else(path)
    if other is not None:
        return UserError("it is no recording ({reason})", reason=other)
    if done is None:
        return UserError("it cannot be read ({why}); ffmpeg, which reads more formats, is not installed", why=why)
    return UserError("it is no audio that libsndfile or ffmpeg can read")


def check_writable(path: Union[str, Path]) -> None:
    """Check that the file's ending is one that can be written.

    Raises:
        UserError: it is not.
    """
    path = Path(path)
    kind = FORMATS.get(path.suffix.lower())
    if kind is None or kind[0] not in soundfile.available_formats():
        able = ", ".join(end for end, (name, _) in FORMATS.items() if name in soundfile.available_formats())
        raise UserError("{path}: cannot write {kind}; give the output one of {able}", path=path,
                        kind=path.suffix or Text("a file without an ending"), able=able)


def write_audio(path: Union[str, Path], audio: np.ndarray, rate: int, comment: str = "") -> Path:
    """Write mono audio, whole or not at all, in the format that the file's ending names.

    Args:
        audio: (samples,) full scale 1; louder samples are clipped.
        rate: Hz. mp3 knows only some rates: others are resampled to 48000 Hz.
        comment: what the container's comment field says, such as `marking.mark_of` gives.

    Raises:
        UserError: an ending that cannot be written. OSError: as the file system gives it.
    """
    path = Path(path)
    check_writable(path)
    kind, subtype = FORMATS[path.suffix.lower()]
    audio = np.clip(np.asarray(audio, dtype=np.float32), -1.0, 1.0)
    if kind == "MP3" and rate not in _MP3_RATES:
        audio, rate = np.clip(librosa.resample(audio, orig_sr=rate, target_sr=48000), -1.0, 1.0), 48000
    with atomic_file(path) as stream:
        target: Any = stream
        if comment and kind == "MP3":  # libsndfile's own tag is not in UTF-8
            stream.write(id3(comment))
            target = io.BytesIO()
        with soundfile.SoundFile(target, "w", rate, 1, subtype, format=kind) as file:
            if comment and kind != "MP3":
                file.comment = comment
            for start in range(0, len(audio), rate):  # libsndfile's Vorbis encoder cannot take minutes at once
                file.write(audio[start : start + rate])
        if target is not stream:
            stream.write(target.getvalue())
    return path


def audio_files(folder: Union[str, Path]) -> List[Path]:
    """The files of `folder` that may be audio, in the order of their names: hidden files and well-known others are
    left out.

    Raises:
        UserError: the folder is missing or holds none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError("there is no folder {folder}{near}: check the path", folder=folder, near=near_words(folder))
    found = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")
                   and p.suffix.lower() not in NOT_AUDIO)
    if not found:
        raise UserError("{folder} holds no audio files: put recordings (wav, flac, mp3, …) there", folder=folder)
    return found
