"""Find the same sound in several recordings, at any level, offset and encoding, by landmarks of its spectrogram.

After Wang, An industrial-strength audio search algorithm (ISMIR 2003): the strongest local peaks of the spectrogram, in
pairs; a pair's two frequencies and the time between them are a hash, and equal recordings have many equal hashes at one
offset in time.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter, uniform_filter1d

RATE = 8000       # Hz; what every recording and encoding keeps
N_FFT, HOP = 512, 128
REACH = 9, 17     # frames, bins: a peak is the largest in so many around it
RISE = 0.35       # over the mean of its frames (1.5 dB): a steady hum has no peaks
PER_SECOND = 25   # peaks kept, the strongest
PARTNERS = 4      # peaks behind it that a peak is paired with
SPAN = 64         # frames (1 s) and bins (1 kHz) between partners, at most
ENOUGH = 15       # equal hashes at one offset, and 8 times what chance gives: the same sound
FRAME_S = HOP / RATE
PAIRS = 1 << 19   # equal hashes looked at at a time: those of hours are billions


def landmarks(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns hashes and the frames that they stand at. [T] at RATE -> 2 x [n] int64"""
    if len(x) < N_FFT:
        return np.zeros((2, 0), np.int64)
    frames = np.lib.stride_tricks.sliding_window_view(x, N_FFT)[::HOP] * np.hanning(N_FFT).astype(np.float32)
    level = np.log(np.square(np.abs(np.fft.rfft(frames)))[:, 1:] + 1e-16)
    peaks = (level == maximum_filter(level, REACH, mode="nearest")) & (level > -25)  # far below 16-bit silence
    peaks &= level > uniform_filter1d(level, REACH[0], axis=0, mode="nearest") + RISE
    t, f = np.nonzero(peaks)
    loudest = np.lexsort((-level[t, f], t // (RATE // HOP)))    # second by second, the strongest first
    second = (t // (RATE // HOP))[loudest]
    rank = np.arange(len(t)) - np.searchsorted(second, second)
    keep = np.sort(loudest[rank < PER_SECOND])                  # in order of time again
    t, f = t[keep], f[keep]
    hashes, at = [], []
    for step in range(1, PARTNERS + 1):
        dt, df = t[step:] - t[:-step], f[step:] - f[:-step]
        near = (dt > 0) & (dt < SPAN) & (np.abs(df) < SPAN)
        hashes.append(((f[:-step] * 2 * SPAN + df + SPAN) * SPAN + dt)[near])
        at.append(t[:-step][near])
    return np.concatenate(hashes), np.concatenate(at)


class Match(NamedTuple):
    a: int          # number of the recording
    b: int
    at_a_s: float   # where it begins in either
    at_b_s: float
    seconds: float


def same_sounds(hashes: list[np.ndarray], frames: list[np.ndarray], groups: list[np.ndarray]) -> list[Match]:
    """Returns pairs of recordings that share a sound, a < b. groups: of every hash a number; only hashes of different
    groups are compared, since there are recordings that may be alike."""
    owner = np.repeat(np.arange(len(hashes), dtype=np.int32), [len(h) for h in hashes])
    all_hashes, all_frames, all_groups = (np.concatenate(x) for x in (hashes, frames, groups))
    order = np.argsort(all_hashes, kind="stable")
    index, owner, all_frames, all_groups = (x[order] for x in (all_hashes, owner, all_frames, all_groups))
    found = []
    for a in range(len(hashes)):
        low, high = (np.searchsorted(index, hashes[a], side) for side in ("left", "right"))
        parts = []
        for part in np.split(np.arange(len(low)), np.flatnonzero(np.diff(np.cumsum(high - low) // PAIRS)) + 1):
            count = (high - low)[part]
            mine = np.repeat(part, count)
            theirs = np.arange(len(mine)) - np.repeat(np.cumsum(count) - count, count) + low[mine]
            wanted = (owner[theirs] > a) & (groups[a][mine] != all_groups[theirs])
            mine, theirs = mine[wanted], theirs[wanted]
            at = frames[a][mine].astype(np.int32)
            parts.append((owner[theirs], at, all_frames[theirs].astype(np.int32) - at))
        owners, at, offset = (np.concatenate(x) for x in zip(*parts, strict=True))
        found += [m for b in np.unique(owners) if (m := _match(a, int(b), at[owners == b], offset[owners == b]))]
    return found


def _match(a: int, b: int, frames: np.ndarray, offset: np.ndarray) -> Match | None:
    """Counts votes for one offset, to a frame or two, against what chance would give it."""
    low = offset.min()
    votes = np.bincount(offset - low, minlength=3)
    votes = votes[:-2] + votes[1:-1] + votes[2:]
    best = int(votes.argmax()) + 1
    by_chance = 3 * (len(offset) - votes.max()) / max(SPAN, np.ptp(offset))
    if votes.max() < ENOUGH + 8 * by_chance:
        return None
    at = np.sort(frames[np.abs(offset - low - best) <= 1])
    first, last = np.percentile(at, [2, 98]) if len(at) > 100 else (at[0], at[-1])
    shift = low + best
    return Match(a, b, first * FRAME_S, (first + shift) * FRAME_S, (last - first) * FRAME_S)
