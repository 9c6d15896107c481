"""What is done to recordings on the way into a training mixture, so that a net bears more than the recordings have:
other bandwidths, microphones, rooms, steady noise.

The rule (docs/data.md): the net takes away, it does not repair. So whatever happens to the speaker's sound before or
while it is captured happens to the target, and is in the mixture alike. With `dereverb` a room's late sound is taken
away, too.

Every draw is from the item's own generator. What is off draws nothing.
"""

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from scipy.fft import irfft, rfft

from extractor import check_limits, check_shares, require

DRY_S = 0.002      # between the direct sound and the room's
EARLY_S = 0.05     # after the direct sound; what comes later is heard as echo
LATE_GAINS = {"off": 1.0, "mild": 10 ** (-10 / 20), "full": 0.0}  # of a room's late sound in the target, by `dereverb`
EQ_HZ = 62.5       # the lowest point of an equaliser; the others lie octaves above
PIVOT_HZ = 1000.0  # where a tilt changes nothing
EDGE = 0.02, 0.3   # log-uniform; width of a band's edge over its cutoff: from a codec's to a cheap microphone's
TAPS = 2049        # of a filter, odd; finer than 50 Hz
BLOCK_FFT = 1 << 14  # samples of a spectrum: so much stays in the cache


@dataclass(frozen=True)
class AugmentArgs:
    p_band: float = 0.4           # share of the mixtures that end at a cutoff, as what was an MP3 or a stream does
    p_target_band: float = 0.15   # share of the others in which the target alone ends at a cutoff, as by voice chat
    p_source_band: float = 0.1    # share of the others in which the interference alone ends at a cutoff
    cutoff_hz: tuple[float, float] = (3500.0, 20000.0)  # log-uniform; where the sound ends
    p_target_mic: float = 0.3     # share of the targets that get the curve of another microphone
    p_source_mic: float = 0.3     # share of the sources of interference that get such a curve
    eq_db: float = 6.0            # a microphone raises or lowers each octave by up to so many dB
    tilt_db: float = 3.0          # a microphone tilts the spectrum by up to so many dB an octave
    low_cut_hz: tuple[float, float] = (20.0, 500.0)  # log-uniform; below it a microphone loses 12 dB an octave
    p_target_room: float = 0.1    # share of the targets that sound in a room
    rt60_s: tuple[float, float] = (0.1, 0.6)      # uniform; until a room's sound has fallen by 60 dB
    direct_db: tuple[float, float] = (0.0, 12.0)  # uniform; the direct sound's energy over the room's
    dereverb: str = "off"         # off; mild: targets have a room's late sound 10 dB softer; full: they have none of it
    p_hiss: float = 0.2           # share of the mixtures that have steady noise besides
    hiss_db: tuple[float, float] = (15.0, 50.0)   # uniform; how far it lies under the mixture

    def __post_init__(self):
        check_shares(self)
        check_limits(self, "cutoff_hz", 100)
        check_limits(self, "low_cut_hz", 1)
        check_limits(self, "rt60_s", 0.01, 10)
        check_limits(self, "direct_db", -100)
        check_limits(self, "hiss_db", -100)
        require(self, "dereverb", self.dereverb in LATE_GAINS, f"give {', '.join(LATE_GAINS)}")
        for name in ("eq_db", "tilt_db"):
            require(self, name, 0 <= getattr(self, name) <= 40, "give 0 to 40 dB")


# of half of the validation mixtures, whatever training does
CONDITIONS = AugmentArgs(
    p_band=0.5, p_target_band=0.25, p_source_band=0.25, cutoff_hz=(4000.0, 18000.0), p_target_mic=0.5, p_source_mic=0.5,
    p_target_room=0.25, p_hiss=0.25,
)
OFF = AugmentArgs(**{field.name: 0.0 for field in fields(AugmentArgs) if field.name.startswith("p_")})


def chance(rng: np.random.Generator, share: float) -> bool:
    """True with this probability. A share of 0 draws nothing, so that what is off changes no other draw."""
    return share > 0 and rng.random() < share


# --- what is drawn for a mixture -------------------------------------------------------------------------------------

class Band(NamedTuple):
    """What a capture keeps: what lies below a cutoff."""

    cutoff_hz: float
    edge: float  # over the cutoff; above (1 - edge) cutoff_hz it fades


class Microphone(NamedTuple):
    """The frequency response of a microphone."""

    gains_db: np.ndarray  # at octaves from EQ_HZ on, in between by straight lines over log frequency. [K]
    low_cut_hz: float     # below it 12 dB an octave are lost


@dataclass(frozen=True)
class Capture:
    """How one mixture is captured. Signals are [T] -> [T]."""

    args: AugmentArgs
    rng: np.random.Generator  # the item's own
    sample_rate: int
    target_band: Band | None  # None: all there is
    source_band: Band | None

    def target(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the speaker's sound as another room, microphone and band would have it, and what of it is wanted,
        which `dereverb` says. They are the same array where all is wanted. -> 2 x [T]"""
        args, rng = self.args, self.rng
        sounds = [x]
        if chance(rng, args.p_target_room):
            room = impulse_response(rng.uniform(*args.rt60_s), rng.uniform(*args.direct_db), rng, self.sample_rate)
            rooms = [room] if args.dereverb == "off" else [room, less_late(room, args.dereverb, self.sample_rate)]
            sounds = [filtered(x, room, middle=0) for room in rooms]
        sounds = self.recorded(sounds, args.p_target_mic, self.target_band)
        return sounds[0], sounds[-1]

    def source(self, x: np.ndarray) -> np.ndarray:
        """Returns a source of interference as another microphone and band would have it."""
        return self.recorded([x], self.args.p_source_mic, self.source_band)[0]

    def hiss(self, n: int) -> np.ndarray | None:
        """Returns steady noise, as a microphone and the band leave it, at no level in particular. -> [n] or None"""
        if not chance(self.rng, self.args.p_hiss):
            return None
        return self.source(self.rng.standard_normal(n, np.float32))

    def recorded(self, sounds: list[np.ndarray], p_mic: float, band: Band | None) -> list[np.ndarray]:
        """Returns sounds behind the band and, with a probability of p_mic, behind a microphone, the same for all."""
        args, rng, microphone = self.args, self.rng, None
        if chance(rng, p_mic):
            octaves = np.arange(n_points(self.sample_rate)) - np.log2(PIVOT_HZ / EQ_HZ)
            gains_db = rng.uniform(-args.tilt_db, args.tilt_db) * octaves
            gains_db += rng.uniform(-args.eq_db, args.eq_db, len(octaves))
            microphone = Microphone(gains_db, log_uniform(rng, args.low_cut_hz))
        if band is microphone is None:
            return sounds
        response = kernel(self.sample_rate, microphone, band)
        return [filtered(x, response, middle=TAPS // 2) for x in sounds]


def draw(args: AugmentArgs, rng: np.random.Generator, sample_rate: int) -> Capture:
    """Draws where a mixture ends in frequency: as a whole, or its target alone, or its interference alone."""
    both, target, source = (chance(rng, share) for share in (args.p_band, args.p_target_band, args.p_source_band))
    if not (both or target or source):
        return Capture(args, rng, sample_rate, None, None)
    band = Band(log_uniform(rng, args.cutoff_hz), log_uniform(rng, EDGE))
    return Capture(args, rng, sample_rate, band if both or target else None, band if both or not target else None)


def log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(limits))))


# --- rooms and filters -----------------------------------------------------------------------------------------------

def impulse_response(rt60_s: float, direct_db: float, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """Returns a diffuse room: the direct sound, of gain 1, and noise that falls by 60 dB in rt60_s. -> [N]"""
    t = np.arange(max(2, round(rt60_s * sample_rate))) / sample_rate
    room = rng.standard_normal(len(t)) * 10 ** (-3 * t / rt60_s) * (t >= DRY_S)
    energy = room @ room
    room *= np.sqrt(10 ** (-direct_db / 10) / energy) if energy else 0.0
    room[0] = 1
    return room.astype(np.float32)


def less_late(room: np.ndarray, dereverb: str, sample_rate: int) -> np.ndarray:
    """Returns a room with its sound from EARLY_S on softer, or none of it. [N] -> [N]"""
    early = round(EARLY_S * sample_rate)
    return np.concatenate([room[:early], np.float32(LATE_GAINS[dereverb]) * room[early:]])


def n_points(sample_rate: int) -> int:
    """Returns the number of points of the equaliser: octaves from EQ_HZ up to half the sample rate."""
    return 1 + max(1, math.ceil(math.log2(sample_rate / 2 / EQ_HZ)))


def kernel(sample_rate: int, microphone: Microphone | None = None, band: Band | None = None) -> np.ndarray:
    """Returns a filter without delay, whose middle sample is at time 0. -> [TAPS]"""
    hz = np.fft.rfftfreq(TAPS - 1, 1 / sample_rate)
    gain = np.ones(len(hz))
    if microphone:
        gains_db, low_cut_hz = microphone
        gain = 10 ** (np.interp(np.log2(np.maximum(hz, 1.0) / EQ_HZ), np.arange(len(gains_db)), gains_db) / 20)
        gain /= np.sqrt(1 + (low_cut_hz / np.maximum(hz, 1.0)) ** 4)
    if band:
        gain = gain * np.clip((band.cutoff_hz - hz) / (band.edge * band.cutoff_hz), 0, 1)
    response, half = irfft(gain, TAPS - 1), TAPS // 2
    return (np.concatenate([response[half:], response[: half + 1]]) * np.hanning(TAPS)).astype(np.float32)


def filtered(x: np.ndarray, kernel: np.ndarray, middle: int) -> np.ndarray:
    """Convolves with a kernel whose sample `middle` is at time 0, by overlap-save, in a third of the time that
    scipy.signal.oaconvolve takes. [T], [N] -> [T]"""
    n = max(BLOCK_FFT, 2 << len(kernel).bit_length())
    step = n - len(kernel) + 1
    n_blocks, before = -(-len(x) // step), len(kernel) - 1 - middle
    padded = np.zeros((n_blocks - 1) * step + n, np.float32)
    padded[before:][: len(x)] = x
    spectra = rfft(np.lib.stride_tricks.sliding_window_view(padded, n)[::step])
    spectra *= rfft(kernel, n)
    return irfft(spectra, n, overwrite_x=True)[:, len(kernel) - 1 :].reshape(-1)[: len(x)]
