"""When the speaker speaks in a recording, by the levels of the estimate and of the recording.

SPEECH_DB and KEPT_DB are the best of a few on remixes of captures whose targets are known: docs/extraction.md has what
they find.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from extractor import audio, slicing
from extractor.levels import HOP_S, background_and_speech, hop_of, hop_powers, smooth_levels
from extractor.voice_formats import cues, speaker_lines, write_lines

SPEECH_DB = 20.0    # under the level of the speech the estimate may be, and
KEPT_DB = 16.0      # under that of the recording
PAUSE_S = 0.3       # shorter ones do not end a span
LEAST_S = 0.15      # shorter spans are no speech
SIDE_S = 0.05       # added on both sides of a span
BLOCK_S = 10        # read at once


def write(
    mixture: audio.Recording, estimate: audio.Recording, speaker: str, keep_db: float = -math.inf,
    hear: Callable[[np.ndarray, int], str] | None = None,
):
    """Writes <name>.rttm and <name>.srt beside an estimate: all spans of speech, with the texts that `hear` finds in
    them, or empty ones. keep_db: how loud the rest of the recording is in the estimate."""
    rate, n_samples = estimate.rate, estimate.frames
    block = hop_of(rate) * round(BLOCK_S / HOP_S)
    g = 10 ** (keep_db / 20)

    def read(start: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the recording, and the estimate without the rest that was kept under it. -> [n], [n]"""
        x, y = (audio.read(recording, start, n, rate) for recording in (mixture, estimate))
        return x, (y - np.float32(g) * x) / np.float32(1 - g) if g else y

    def powers(signals: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [hop_powers(x[:, None], hop_of(rate))[0] for x in signals]

    with audio.kept_open(mixture), audio.kept_open(estimate):
        blocks = [powers(read(start, min(block, n_samples - start))) for start in range(0, n_samples, block)]
        found = spans(*map(np.concatenate, zip(*blocks, strict=True)))
        samples = [(round(start * rate), min(n_samples, round(end * rate))) for start, end in found]
        texts = [hear(read(start, end - start)[1], rate) if hear else "" for start, end in samples]
    rows = [{"start_s": start, "end_s": end, "text": text} for (start, end), text in zip(found, texts, strict=True)]
    write_lines(estimate.path.with_suffix(".srt"), cues(rows))
    write_lines(estimate.path.with_suffix(".rttm"), speaker_lines(rows, estimate.path.stem, speaker))


def spans(
    mixture: np.ndarray, estimate: np.ndarray, *, speech_db: float = SPEECH_DB, side_s: float = SIDE_S
) -> list[tuple[float, float]]:
    """Returns the start and the end of all that is said, in s. Powers of hops, [L], [L] ->"""
    levels = smooth_levels(estimate)
    if not (known := background_and_speech(levels)):
        return []
    heard = (levels > known[1] - speech_db) & (levels - smooth_levels(mixture) > -KEPT_DB)
    joined: list[list[int]] = []
    for start, end in slicing.runs(heard):
        if joined and (start - joined[-1][1]) * HOP_S < PAUSE_S:
            joined[-1][1] = end
        else:
            joined.append([start, end])
    length_s = len(levels) * HOP_S
    return [
        (max(0.0, start * HOP_S - side_s), min(length_s, end * HOP_S + side_s))
        for start, end in joined if (end - start) * HOP_S >= LEAST_S
    ]
