"""How good an estimate is, as far as that can be told without its target.

No score here says by itself how good an estimate is: promise.py learns that from remixes whose target is known.
"""

from collections.abc import Callable

import numpy as np
import torch

from extractor.levels import hop_of, hop_powers, smooth_levels
from extractor.metrics import si_sdr
from extractor.profile import bandwidth, spectrogram_db

Extract = Callable[[np.ndarray], np.ndarray]  # of a mixture, its estimate. [T] -> [T]

HARDER = 2.0       # the factor of what was taken away, in a mixture that is made of the estimate and it
SHIFT = 0.37       # of a second; no multiple of any hop
BANDS_HZ = 0, 500, 1000, 2000, 4000, 8000, 30_000
NAMES = (
    "harder_db", "shifted_db", "kept_db", *(f"kept_{low}_db" for low in BANDS_HZ[:-1]), "removed_db", "pause_db",
    "pause_kept_db", "bandwidth_hz", "clipped",
)
LEAST_DB, MOST_DB = -60.0, 60.0  # of any ratio: nothing is surer than that
NOTHING = 1e-8     # of the mixture's power: a band with less has none
CLIPPED = 0.999    # of full scale


def scores(mixture: np.ndarray, estimate: np.ndarray, extract: Extract, sample_rate: int) -> dict[str, float]:
    """Returns the scores by the NAMES, all finite. [T], [T] -> {}

    harder_db: SI-SDR of f(e + 2 (x - e)) with e for reference: what was taken away is twice as loud.
    shifted_db: SI-SDR of the estimate of the mixture behind 0.37 s of silence.
    kept_db: level of the estimate over the mixture's; kept_<Hz>_db: the same from this frequency to the next.
    removed_db: level of the estimate over that of what was taken away.
    pause_db: level of the estimate's pauses, the quietest tenth, over its speech, the loudest quarter.
    pause_kept_db: level of the estimate over the mixture's, where the estimate is quiet.
    bandwidth_hz: how high the estimate's sound reaches; clipped: share of the mixture's samples at full scale.
    """
    removed = mixture - estimate
    found = {
        "harder_db": agreement(extract(estimate + HARDER * removed), estimate),
        "shifted_db": agreement(shifted(mixture, extract, sample_rate), estimate),
        "kept_db": ratio(estimate, mixture),
        "removed_db": ratio(estimate, removed),
        "clipped": float((np.abs(mixture) >= CLIPPED).mean()),
    }
    spectra = [np.abs(np.fft.rfft(x)) ** 2 for x in (estimate, mixture)]
    hz, floor = np.fft.rfftfreq(len(mixture), 1 / sample_rate), NOTHING * float(spectra[1].sum())
    for low, high in zip(BANDS_HZ, BANDS_HZ[1:], strict=False):
        inside = (hz >= low) & (hz < high)
        found[f"kept_{low}_db"] = limited(*(float(s[inside].sum()) + floor for s in spectra))
    hop = hop_of(sample_rate)
    e, x = (hop_powers(s[:, None], hop)[0] for s in (estimate, mixture))
    levels = smooth_levels(e)
    quiet, loud = levels <= np.percentile(levels, 10), levels >= np.percentile(levels, 75)
    found["pause_db"] = limited(e[quiet].mean(), e[loud].mean())
    found["pause_kept_db"] = limited(e[quiet].sum(), x[quiet].sum())
    found["bandwidth_hz"] = bandwidth(spectrogram_db(estimate, sample_rate), sample_rate, moving=False)
    return found


def shifted(mixture: np.ndarray, extract: Extract, sample_rate: int) -> np.ndarray:
    """Returns another estimate: that of the mixture behind SHIFT of silence. [T] -> [T]"""
    pad = np.zeros(round(SHIFT * sample_rate), np.float32)
    return extract(np.concatenate([pad, mixture]))[len(pad) :]


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the SI-SDR of one estimate with another for reference, in dB, limited. [T], [T] ->"""
    one, other = (torch.from_numpy(np.ascontiguousarray(x)) for x in (one, other))
    return float(np.clip(si_sdr(estimate=one, reference=other).item(), LEAST_DB, MOST_DB))


def ratio(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the level of one signal over another's in dB, limited. [T], [T] ->"""
    return limited(float(one @ one), float(other @ other))


def limited(power: float, other: float) -> float:
    """Returns the ratio of two powers in dB, limited; that of nothing to nothing is the least."""
    if not power or not other:
        return MOST_DB if power else LEAST_DB
    return float(np.clip(10 * np.log10(power / other), LEAST_DB, MOST_DB))
