"""What recordings sound like, so that those to be extracted can be compared with those a net was trained on.

    for difference in unlike(profile([capture]), profile(clips)):
        print(f"{capture.path}: {difference}")
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from extractor import audio
from extractor.levels import to_db

N_FFT, N_BANDS = 4096, 64   # of a spectrum, up to half the sample rate
EVERY_S = 0.5       # one spectrum
REACH_DB = 55       # what lies further under the strongest band is nothing
MOVES_DB = 10       # speech comes and goes; a band that moves less is noise
MOMENTS = 60        # seconds that stand for all
RATE = 44100        # at which they are compared
TILT_HZ = 250.0, 8000.0  # where the fall of the spectrum is measured, as far as there is sound

NARROWER, WIDER = 0.95, 1.1   # bandwidth over bandwidth: beyond is worth a word
LOUDER_DB, STEEPER_DB = 10.0, 3.0
SILENT_DB = -80.0   # a floor is no lower: digital silence is no quieter than silence


class Profile(NamedTuple):
    bandwidth_hz: float  # how high the sound reaches
    floor_db: float      # the level exceeded 95 % of the time, over that exceeded 5 % of it; at least SILENT_DB
    tilt_db: float       # the fall of the long-term spectrum, dB an octave


def spectrogram_db(x: np.ndarray, rate: int) -> np.ndarray:
    """Levels in N_BANDS equal bands up to rate / 2, at a moment every EVERY_S. [T] -> [moments, N_BANDS] dB"""
    x = np.pad(x, (0, max(0, N_FFT - len(x))))
    frames = np.lib.stride_tricks.sliding_window_view(x, N_FFT)[:: max(1, round(EVERY_S * rate))]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(N_FFT).astype(np.float32))))[:, 1:]
    return to_db(power.reshape(len(power), N_BANDS, -1).mean(axis=2))


def bandwidth(levels: np.ndarray, rate: int, *, moving: bool) -> float:
    """The upper edge in Hz of the highest band that is loud at times, within REACH_DB of the loudest one; of those that
    come and go by MOVES_DB, as speech does and an even noise does not, if `moving`. [moments, bands] -> Hz"""
    loud = np.percentile(levels, 98, axis=0)
    there = loud > loud.max() - REACH_DB
    if moving:
        there &= loud - np.percentile(levels, 10, axis=0) > MOVES_DB
    return float((np.flatnonzero(there).max(initial=-1) + 1) * rate / 2 / N_BANDS)


def profile(recordings: Sequence[audio.Recording]) -> Profile:
    """The profile of recordings, by MOMENTS seconds spread over them. Raises UserError where one cannot be read."""
    ends = np.cumsum([r.seconds for r in recordings])
    levels = []
    moments = (np.arange(MOMENTS) + 0.5) / MOMENTS * ends[-1]
    places = np.searchsorted(ends, moments, side="right")
    for i in np.unique(places):
        length = recordings[i].length(RATE)
        with audio.kept_open(recordings[i]):
            for at in moments[places == i] - ends[i] + recordings[i].seconds:
                start = max(0, min(round(at * RATE), length - RATE))
                levels.append(spectrogram_db(audio.read(recordings[i], start, min(RATE, length), RATE), RATE))
    levels = np.concatenate(levels)
    overall = to_db((10 ** (levels / 10)).sum(axis=1))
    hz = (np.arange(N_BANDS) + 0.5) * RATE / 2 / N_BANDS
    reach = bandwidth(levels, RATE, moving=False)
    inside = (hz > TILT_HZ[0]) & (hz < max(4 * TILT_HZ[0], min(TILT_HZ[1], 0.9 * reach)))
    long_term = to_db((10 ** (levels[:, inside] / 10)).mean(axis=0))
    weight = 1 / np.sqrt(hz[inside])  # every octave counts alike
    return Profile(
        bandwidth_hz=reach,
        floor_db=float(max(SILENT_DB, np.percentile(overall, 5) - np.percentile(overall, 95))),
        tilt_db=float(np.polyfit(np.log2(hz[inside]), long_term, 1, w=weight)[0]),
    )


def unlike(capture: Profile, clean: Profile) -> list[str]:
    """What of a recording to extract is unlike the clean ones, a sentence's end each."""
    found, (ends, reach) = [], (f"{p.bandwidth_hz / 1000:.1f} kHz" for p in (capture, clean))
    bandwidths = f"its sound ends at {ends}, that of the clean recordings at {reach}"
    if capture.bandwidth_hz < NARROWER * clean.bandwidth_hz:
        found.append(f"{bandwidths}; AugmentArgs.p_band and cutoff_hz train for that")
    if capture.bandwidth_hz > WIDER * clean.bandwidth_hz:
        found.append(f"{bandwidths}; what the speaker has above will be lost")
    if clean.floor_db > capture.floor_db + LOUDER_DB:
        floor, own = (f"{-p.floor_db:.0f} dB" for p in (capture, clean))
        kept = "the net will learn to keep the background of the clean ones"
        found.append(f"its pauses are {floor} under its loud parts, those of the clean recordings {own}; {kept}")
    if abs(capture.tilt_db - clean.tilt_db) > STEEPER_DB:
        slope, own = (f"{p.tilt_db:+.1f} dB an octave" for p in (capture, clean))
        found.append(f"its spectrum changes by {slope}, that of the clean recordings by {own}: another microphone")
    return found
