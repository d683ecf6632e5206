"""Audio files in and out: whatever libsndfile or ffmpeg reads; wav, flac, ogg and mp3 written."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Dict, List, Tuple, Union

import librosa
import numpy as np
import soundfile

from ..files import atomic_file
from ..messages import UserError

FORMATS: Dict[str, Tuple[str, str]] = {
    ".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS"), ".mp3": ("MP3", "MPEG_LAYER_III"),
}
"""File endings that can be written, with libsndfile's names for them."""

_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_NOT_AUDIO = {".txt", ".json", ".md", ".csv", ".npy", ".index", ".pth", ".safetensors", ".log", ".ini", ".db", ".zip"}


def read_audio(path: Union[str, Path], rate: int) -> np.ndarray:
    """Read any audio file as mono.

    Args:
        rate: the sample rate wanted, in Hz.

    Returns:
        (samples,) float32, full scale 1.

    Raises:
        UserError: the file is missing, empty, no audio, or holds samples that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no audio file {path}: check the path", f"找不到音频文件 {path}：请检查路径")
    try:
        samples, found = soundfile.read(str(path), dtype="float32", always_2d=True)  # (samples, channels)
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError, ValueError) as error:
        audio = _read_with_ffmpeg(path, rate, str(error))
    else:
        audio = samples.mean(axis=1)
        if found != rate and audio.size:
            audio = librosa.resample(audio, orig_sr=found, target_sr=rate)
    if audio.size == 0:
        raise UserError(f"{path} holds no sound: choose another file", f"{path} 没有声音内容：请选择其他文件")
    if not np.isfinite(audio).all():
        raise UserError(f"{path} holds samples that are not numbers: write it anew from its source",
                        f"{path} 中含有非数值采样：请从源文件重新导出")
    return np.ascontiguousarray(audio, dtype=np.float32)


def _read_with_ffmpeg(path: Path, rate: int, why: str) -> np.ndarray:
    program = shutil.which("ffmpeg")
    if program is None:
        raise UserError(f"{path} cannot be read ({why}): convert it to wav or flac, or install ffmpeg, which reads more formats",
                        f"无法读取 {path}（{why}）：请转换为 wav 或 flac，或安装支持更多格式的 ffmpeg")
    # "file:" keeps a name such as "concat:x" from being taken for one of ffmpeg's protocols.
    command = [program, "-nostdin", "-v", "error", "-i", f"file:{path.absolute()}", "-vn", "-f", "f32le", "-ac", "1", "-ar", str(rate), "-"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    audio = np.frombuffer(done.stdout[: len(done.stdout) // 4 * 4], np.float32)
    if done.returncode != 0 or audio.size == 0:
        said = (done.stderr.decode("utf-8", "replace").strip().splitlines() or [why])[-1]
        raise UserError(f"{path} is no audio that libsndfile or ffmpeg can read ({said}): choose another file",
                        f"{path} 不是 libsndfile 或 ffmpeg 能读取的音频（{said}）：请选择其他文件")
    return audio


def check_writable(path: Union[str, Path]) -> None:
    """Check that the file's ending is one that can be written.

    Raises:
        UserError: it is not.
    """
    path = Path(path)
    kind = FORMATS.get(path.suffix.lower())
    if kind is None or kind[0] not in soundfile.available_formats():
        able = ", ".join(end for end, (name, _) in FORMATS.items() if name in soundfile.available_formats())
        raise UserError(f"{path}: cannot write {path.suffix or 'a file without an ending'}; give the output one of {able}",
                        f"{path}：无法写入 {path.suffix or '没有扩展名的文件'}；输出文件请使用 {able}")


def write_audio(path: Union[str, Path], audio: np.ndarray, rate: int) -> Path:
    """Write mono audio, whole or not at all, in the format that the file's ending names.

    Args:
        audio: (samples,) full scale 1; louder samples are clipped.
        rate: Hz. mp3 knows only some rates: others are resampled to 48000 Hz.

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
        with soundfile.SoundFile(stream, "w", rate, 1, subtype, format=kind) as file:
            for start in range(0, len(audio), rate):  # libsndfile's Vorbis encoder cannot take minutes at once
                file.write(audio[start : start + rate])
    return path


def audio_files(folder: Union[str, Path]) -> List[Path]:
    """The files of `folder` that may be audio, in the order of their names: hidden files and well-known others are left out.

    Raises:
        UserError: the folder is missing or holds none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: check the path", f"找不到文件夹 {folder}：请检查路径")
    found = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.suffix.lower() not in _NOT_AUDIO)
    if not found:
        raise UserError(f"{folder} holds no audio files: put recordings (wav, flac, mp3, …) there",
                        f"{folder} 中没有音频文件：请放入录音（wav、flac、mp3 等）")
    return found
