"""How loud a recording is from moment to moment, what of it is background, and what speech.

Levels are dBFS of the power in hops of 10 ms: 0 is a full-scale square wave. A hop's own mean is taken out first, so
that neither an offset nor rumble below 50 Hz hides a pause.
"""

from collections.abc import Iterable

import numpy as np

HOP_S = 0.01
SILENCE_DB = -120  # digital silence; it says nothing of the room
CONTRAST_DB = 6    # what stands out less from the background is background
QUIET_DB = -60     # a segment below it is silence: no SNR can be set with it
DELAYED = 0.2      # of two channels' cross-correlation, at a delay: the same sound is in both
OFFSET = 0.02      # of full scale; a constant part that is worth a word


def hop_of(rate: int) -> int:
    return max(1, round(HOP_S * rate))


def hop_powers(x: np.ndarray, hop: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns for every hop its power, mean over channels, and the sample which, with the one before, is nearest to 0.
    [T, channels] -> 2 x [ceil(T / hop)]; the last hop may be a part of one."""
    x = np.pad(x, ((0, -len(x) % hop), (0, 0)), mode="edge") if len(x) % hop else x
    hops = x.reshape(-1, hop, x.shape[1])
    power = hops.var(axis=1).mean(axis=1)
    near = np.square(x).sum(axis=1)
    near += np.append(near[0], near[:-1])
    return power, near.reshape(-1, hop).argmin(axis=1)


def to_db(power):
    """Returns dBFS of one power or of an array; -140 for nothing at all."""
    return 10 * np.log10(power + 1e-14)


def smooth_levels(powers: np.ndarray) -> np.ndarray:
    """Averages powers over three hops. [L] -> [L] dBFS"""
    padded = np.pad(powers.astype(np.float64), 1, mode="edge")
    return to_db((padded[:-2] + padded[1:-1] + padded[2:]) / 3)


def background_and_speech(levels: np.ndarray, *, above: float | None = None) -> tuple[float, float] | None:
    """The level of the background, exceeded 98 % of the time, and that of the speech, exceeded a quarter of the time
    that it stands out from the background (or lies above a given level). [L] dBFS -> dBFS, dBFS

    None where less than a tenth of a second does. Both move with the level of the recording, and hardly with the share
    of speech in it. So low a percentile, since there are recordings with hardly a pause that is not digital silence.
    """
    audible = levels[levels > SILENCE_DB]
    if not len(audible):
        return None
    background = float(np.percentile(audible, 2))
    speech = audible[audible > (background + CONTRAST_DB if above is None else above)]
    return (background, float(np.percentile(speech, 75))) if len(speech) * HOP_S >= 0.1 else None


def speech_threshold(background_db: float, speech_db: float) -> float:
    """Returns the level above which is speech: background + 5 dB, but at least the speech's level - 30 dB."""
    return max(background_db + 5, speech_db - 30)


def channel_of(products: np.ndarray) -> int | None:
    """Returns the loudest channel where the channels' mean has 6 dB less power than if they were unrelated; else None.
    products: the sums over time of channel times channel. [C, C]"""
    unrelated = np.trace(products)
    return int(np.diag(products).argmax()) if products.sum() < unrelated / 4 else None


def delay_of(looks: Iterable[np.ndarray]) -> int | None:
    """Returns by how many samples the second of two channels lags behind the first (negative: it leads), where the same
    sound is in both at different times: their mean would lack some frequencies. None where it is not. By the
    generalised cross-correlation with phase transform (Knapp and Carter 1976). Parts of a recording, [T, 2] each, of
    one length."""
    cross = 0.0
    for x in looks:
        first, second = np.fft.rfft(x - x.mean(axis=0), 2 * len(x), axis=0).T
        product = np.conj(first) * second
        cross = cross + product / (np.abs(product) + 1e-3 * np.abs(product).mean() + 1e-30)
    correlation = np.fft.irfft(cross)
    peak = int(np.abs(correlation).argmax())
    lag = peak if peak <= len(correlation) // 2 else peak - len(correlation)
    at_once = np.abs(correlation[[-1, 0, 1]]).max()
    whole = np.abs(cross).mean()  # of a recording with nothing but the delayed sound, all of it lies at the peak
    distinct = abs(lag) > 1 and abs(correlation[peak]) > max(DELAYED * whole, 2 * at_once)
    return lag if distinct else None


def level_db(x: np.ndarray) -> float:
    """Returns the mean power in dBFS; -inf for silence. [T] ->"""
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(np.float64(x @ x) / len(x)))
