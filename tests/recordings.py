"""Recordings in any format, of noise whose levels and bandwidth are known by hand."""

from pathlib import Path

import numpy as np
import soundfile as sf
from speech import gain

RATE = 24000  # up to 12 kHz, which is not named yet


def save(path: Path, samples: np.ndarray, rate: int = RATE, **form) -> Path:
    """In blocks: libsndfile crashes where an OGG file is written at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with sf.SoundFile(path, "w", rate, 1 if samples.ndim == 1 else samples.shape[1], **form) as f:
        for start in range(0, len(samples), 65536):
            f.write(samples[start : start + 65536])
    return path


def bursts(seconds: float, rate: int = RATE, speech_db: float = -20, background_db: float = -70) -> np.ndarray:
    """White noise: 0.4 s of speech, 0.3 s of background, and so on."""
    n = round(seconds * rate)
    level = np.where(np.arange(n) / rate % 0.7 < 0.4, speech_db, background_db)
    return np.random.default_rng(0).standard_normal(n) * gain(level)


def white(seconds: float, db: float, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(round(seconds * rate)) * gain(db)
