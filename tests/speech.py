"""Synthetic speech with pauses at known places, and a run of the slicer over it.

The speech is noise of a voice's band in syllables, over a faint background.
"""

import subprocess
import sys
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from scipy.signal import butter, sosfilt

from extractor import slicing
from slicer import SlicerArgs, main

RATE = 8000
BACKGROUND_DB = -70
TALK = (0.4, 3, 0.5, 2, 0.3, 4, 0.6, 2.5, 0.35, 5, 0.5, 3.5, 0.45, 2, 0.3, 6, 0.6, 3, 0.5, 2.2, 0.4, 4, 0.5)


def gain(db: float) -> float:
    return 10 ** (db / 20)


def syllables(n: int, rate: int, seed: int) -> np.ndarray:
    """-18 dBFS and less: a peak (0 to -8 dB) or a valley (-20 dB) every 60 to 100 ms, straight lines between."""
    rng = np.random.default_rng((1, seed))
    voice = sosfilt(butter(2, (200, 3000), "bandpass", fs=rate, output="sos"), rng.standard_normal(n))
    knots = np.cumsum(rng.uniform(0.06, 0.1, int(n / rate / 0.06) + 2)) - 0.1
    levels = np.where(np.arange(len(knots)) % 2, -20, rng.uniform(-8, 0, len(knots)))
    return gain(-18) * voice / voice.std() * gain(np.interp(np.arange(n) / rate, knots, levels))


def talk(*seconds: float, rate: int = RATE, seed: int = 0, background_db: float = BACKGROUND_DB) -> np.ndarray:
    """Seconds of pause, of speech, of pause, of speech ... [T]"""
    edges = [round(s * rate) for s in accumulate(seconds, initial=0)]
    x = gain(background_db) * np.random.default_rng((0, seed)).standard_normal(edges[-1])
    for i, (start, end) in enumerate(pairwise(edges)):
        if i % 2:
            x[start:end] += syllables(end - start, rate, 100 * seed + i)
    return x


def spoken(*seconds: float) -> list[tuple[float, float]]:
    """From when to when talk(*seconds) speaks."""
    return list(pairwise(accumulate(seconds, initial=0)))[1::2]


def put(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str = "FLOAT") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, rate, subtype)
    return path


def settings_of(folder: Path, **fields) -> SlicerArgs:
    return SlicerArgs(inputs=str(folder / "in"), out_dir=str(folder / "out"), **{"sample_rate": RATE} | fields)


def sliced(folder: Path, samples: np.ndarray | None = None, **fields) -> list[dict]:
    """The rows of the table, numbers as such, after a run without failures, over one recording where it is given."""
    if samples is not None:
        put(folder / "in" / "a.wav", samples)
    assert main(settings_of(folder, **fields)) == []
    return rows_in(folder)


def rows_in(folder: Path) -> list[dict]:
    numbers = ("start_s", "end_s", "seconds", "speech_share")
    return [row | {k: float(row[k]) for k in numbers} for row in slicing.read_table(folder / "out")]


def clips_of(rows: list[dict]) -> list[dict]:
    return [row for row in rows if row["clip"]]


def cut_times(rows: list[dict]) -> np.ndarray:
    """[clips, 2]"""
    return np.array([(row["start_s"], row["end_s"]) for row in clips_of(rows)])


def splices_of(clip: dict, rows: list[dict]) -> list[dict]:
    """The pauses that were shortened in it."""
    inner = [row for row in rows if row["reason"] == "pause shortened" and row["source"] == clip["source"]]
    return [row for row in inner if clip["start_s"] < row["start_s"] < clip["end_s"]]


def content(folder: Path) -> dict[str, bytes]:
    """Of all that is not hidden."""
    found = sorted(folder.rglob("[!.]*"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in found if p.is_file()}


def run_slicer(folder: Path, *words) -> subprocess.Popen:
    words = ("--inputs", folder / "in", "--out-dir", folder / "out", "--sample-rate", RATE, *words)
    command = [sys.executable, "slicer.py", *map(str, words)]
    return subprocess.Popen(command, stdout=-1, stderr=-1, encoding="utf-8", cwd=Path(__file__).parent.parent)


def assert_complete(rows: list[dict], seconds: float):
    """Every second is accounted for."""
    inner = [splice for clip in clips_of(rows) for splice in splices_of(clip, rows)]
    outer = sorted((row for row in rows if row not in inner), key=lambda row: row["start_s"])
    edges = [0.0, *(row[end] for row in outer for end in ("start_s", "end_s")), seconds]
    np.testing.assert_allclose(edges[::2], edges[1::2], rtol=0, atol=1e-6)  # each starts where the one before ends
    for row in rows:
        removed = sum(splice["seconds"] for splice in splices_of(row, rows)) if row["clip"] else 0
        assert row["seconds"] == pytest.approx(row["end_s"] - row["start_s"] - removed, abs=2e-6)
    assert sum(row["seconds"] for row in rows) == pytest.approx(seconds, abs=1e-6 * len(rows))
