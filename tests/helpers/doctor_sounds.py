"""Made-up speech, and what is done to it to have each defect."""

from __future__ import annotations

import functools

import numpy as np
from scipy import signal

RATE = 40000


@functools.lru_cache(maxsize=None)
def voice(seconds: float = 12.0, seed: int = 0, rate: int = RATE, pitch: float = 130.0) -> np.ndarray:
    """(samples,) float32: syllables of gliding harmonics through two formants, hissing consonants, pauses; dry, with
    faint noise as of a good microphone."""
    rng = np.random.default_rng(seed)
    count = int(seconds * rate)
    audio = np.zeros(count)
    at = int(0.2 * rate)
    while at < count - rate // 2:
        length = int(rng.uniform(0.12, 0.28) * rate)
        time = np.arange(length) / rate
        f0 = pitch * (1 + rng.uniform(-0.25, 0.25) + rng.uniform(-0.3, 0.3) * time)
        phase = 2 * np.pi * np.cumsum(np.broadcast_to(f0, length)) / rate
        sound = sum(np.sin(k * phase) / k ** 0.8 for k in range(1, 30))
        formants = [rng.uniform(300, 800), rng.uniform(1000, 2400)]
        for hz in formants:
            b, a = signal.iirpeak(hz, 3, fs=rate)
            sound = sound + 2 * signal.lfilter(b, a, sound)
        edge = np.minimum(1, np.minimum(np.arange(length), np.arange(length)[::-1]) / (0.012 * rate))
        audio[at:at + length] += 0.03 * sound * edge * rng.uniform(0.5, 1)
        at += length
        hiss = int(rng.uniform(0.03, 0.09) * rate)
        audio[at:at + hiss] += rng.normal(0, 0.02, len(audio[at:at + hiss]))
        at += hiss
        if rng.random() < 0.3:
            at += int(rng.uniform(0.3, 0.6) * rate)
    audio += rng.normal(0, 2e-5, count)
    return (audio * 0.5 / np.abs(audio).max()).astype(np.float32)


def clipped(audio: np.ndarray) -> np.ndarray:
    return np.clip(audio * 5, -0.9, 0.9)


def noisy(audio: np.ndarray, below: float = 15.0) -> np.ndarray:
    """White noise so many dB below the voice."""
    loud = audio[np.abs(audio) > 0.02].std()
    return (audio + np.random.default_rng(1).normal(0, loud * 10 ** (-below / 20), len(audio))).astype(np.float32)


def humming(audio: np.ndarray, mains: float, rate: int = RATE, level: float = 0.004) -> np.ndarray:
    time = np.arange(len(audio)) / rate
    return (audio + sum(level / k * np.sin(2 * np.pi * mains * k * time + k) for k in (1, 2, 3, 5))).astype(np.float32)


def upsampled(audio: np.ndarray, low: int, rate: int = RATE) -> np.ndarray:
    return signal.resample_poly(signal.resample_poly(audio, low // 100, rate // 100), rate // 100,
                                low // 100)[:len(audio)].astype(np.float32)


def in_a_hall(audio: np.ndarray, seconds: float, rate: int = RATE) -> np.ndarray:
    """In a room in which sounds take so long to fall by 60 dB, at as much direct sound as echo."""
    rng, count = np.random.default_rng(2), int(seconds * rate)
    room = rng.normal(0, 1, count) * 10 ** (-3 * np.arange(count) / rate / seconds)
    room /= np.sqrt((room ** 2).sum())
    room[0] = 1.0
    wet = signal.fftconvolve(audio, room)[:len(audio)]
    return (wet * 0.5 / np.abs(wet).max()).astype(np.float32)


def with_music(audio: np.ndarray, rate: int = RATE, level: float = 0.02) -> np.ndarray:
    """Chords of three notes with overtones, two seconds each."""
    time = np.arange(len(audio)) / rate
    music = np.zeros(len(audio))
    for number, root in enumerate((220.0, 174.6, 196.0, 220.0)):
        on = ((time // 2).astype(int) % 4) == number
        for ratio in (1.0, 1.26, 1.5):
            music += on * sum(np.sin(2 * np.pi * root * ratio * k * time) / k for k in range(1, 5))
    return (audio + level * music / 3).astype(np.float32)


def mostly_silent(audio: np.ndarray, rate: int = RATE) -> np.ndarray:
    return np.concatenate([audio[:3 * rate], np.zeros(20 * rate, np.float32)])
