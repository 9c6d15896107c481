"""What may be done to recordings, so that a net hears more kinds of mixtures than there are.

What the speaker's sound goes through before it meets other sounds, as a room, is done to the target, and is in the
mixture as it is in the target: the net takes away, it does not repair. What lies over the target is changed source by
source. What happens to the sum, as coding and clipping, is done to the mixture alone; what is in it of the target
before that remains the target. But where a mixture is muffled its target is, as nothing tells what was there.

Other pitches and speeds of what lies over the target are MixtureArgs.speed: a phase vocoder, which would move the pitch
alone, takes 25 dB from a hum after silence. All of it is off unless asked for. Every draw is from the item's own
generator.
"""

import io
import math
from dataclasses import dataclass

import numpy as np
import soundfile as sf
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

from extractor import UserError

DRY_S = 0.002      # between the direct sound and the room's
MOST_SOURCES = 3
LEAST_SPEED, MOST_SPEED = 0.005, 0.02  # of the target: another speed would be another voice
EQ_HZ = 62.5       # the lowest point of an equaliser; the others lie octaves above
BLOCK = 1 << 16    # samples; libsndfile's encoders fail on long writes


@dataclass(frozen=True)
class AugmentArgs:
    polarity: bool = False        # every source, the target too, has a random sign
    more: float = 0.0             # chance of another source over those there are, up to three in all
    rooms: float = 0.0            # share of the sources over the target that sound in a room of their own
    target_rooms: float = 0.0     # share of the targets that do
    rt60_s: tuple[float, float] = (0.1, 0.6)      # uniform; until a room's sound has fallen by 60 dB
    direct_db: tuple[float, float] = (0.0, 12.0)  # uniform; the direct sound's energy over the room's
    eq_db: float = 0.0            # octaves of every source over the target are raised or lowered by up to this
    target_eq_db: float = 0.0     # and of the target
    target_speed: float = 0.0     # the target is played up to this much faster or slower: 0.005 to 0.02
    mixup: float = 0.0            # share of the targets that are the sum of two clips
    muffled: float = 0.0          # share of the mixtures without treble, as recordings at lower rates are
    cutoff_hz: tuple[float, float] = (4000.0, 16000.0)  # log-uniform; where those end
    gain_db: tuple[float, float] = (0.0, 0.0)     # uniform; of the mixture, within full scale: what coding depends on
    coded: float = 0.0            # share of the mixtures that went through a lossy codec, Ogg Vorbis
    coding: tuple[float, float] = (0.2, 1.0)      # uniform; 0 is its best quality, 1 its worst
    clipped: float = 0.0          # share of the mixtures that are clipped
    clip_db: tuple[float, float] = (1.0, 12.0)    # uniform; how far under their peak

    def __post_init__(self):
        for name in ("more", "rooms", "target_rooms", "mixup", "muffled", "coded", "clipped"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"AugmentArgs.{name} = {getattr(self, name)}: give a share, 0 to 1")
        least = {"rt60_s": 0.01, "cutoff_hz": 100.0, "coding": 0.0, "clip_db": 0.0}
        most = {"rt60_s": 10.0, "coding": 1.0}
        for name in ("rt60_s", "direct_db", "cutoff_hz", "gain_db", "coding", "clip_db"):
            low, high = getattr(self, name)
            if not least.get(name, -100) <= low <= high <= most.get(name, math.inf):
                limits = f"from {least.get(name, -100):g} on" + (f", to {most[name]:g}" if name in most else "")
                raise UserError(f"AugmentArgs.{name} = {low, high}: give two numbers in order, {limits}")
        for name in ("eq_db", "target_eq_db"):
            if not 0 <= getattr(self, name) <= 40:
                raise UserError(f"AugmentArgs.{name} = {getattr(self, name)}: give 0 to 40 dB")
        if self.target_speed and not LEAST_SPEED <= self.target_speed <= MOST_SPEED:
            raise UserError(
                f"AugmentArgs.target_speed = {self.target_speed}: give 0, or {LEAST_SPEED} to {MOST_SPEED}; "
                "beyond it is another voice"
            )


def chance(rng: np.random.Generator, share: float) -> bool:
    """Draws nothing where there is none, so that what is off changes no other draw."""
    return share > 0 and rng.random() < share


# ---------------------------------------------------------------------------------------------------------------------
# whole chains


def source(x: np.ndarray, args: AugmentArgs, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """Of a source over the target. [T] -> [T]"""
    return placed(x, args.rooms, args.eq_db, args, rng, sample_rate)


def target(x: np.ndarray, args: AugmentArgs, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """[T] -> [T]"""
    return placed(x, args.target_rooms, args.target_eq_db, args, rng, sample_rate)


def placed(
    x: np.ndarray, rooms: float, eq_db: float, args: AugmentArgs, rng: np.random.Generator, sample_rate: int
) -> np.ndarray:
    if chance(rng, rooms):
        x = in_a_room(x, impulse_response(rng.uniform(*args.rt60_s), rng.uniform(*args.direct_db), rng, sample_rate))
    if eq_db:
        x = equalised(x, rng.uniform(-eq_db, eq_db, n_points(sample_rate)), sample_rate)
    return -x if args.polarity and rng.random() < 0.5 else x


def together(
    signals: tuple[np.ndarray, ...], args: AugmentArgs, rng: np.random.Generator, sample_rate: int
) -> tuple[np.ndarray, ...]:
    """Mixture, target and interference alike. n x [T] -> n x [T]"""
    if chance(rng, args.muffled):
        cutoff_hz = np.exp(rng.uniform(*np.log(args.cutoff_hz)))
        signals = tuple(muffled(x, cutoff_hz, sample_rate) for x in signals)
    if args.gain_db != (0, 0):
        gain = 10 ** (rng.uniform(*args.gain_db) / 20)
        gain = np.float32(gain / max(1.0, gain * max(np.abs(x).max() for x in signals)))
        signals = tuple(gain * x for x in signals)
    return signals


def mixture(x: np.ndarray, args: AugmentArgs, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """Of the sum alone. [T] -> [T]"""
    if chance(rng, args.clipped):
        x = clipped(x, rng.uniform(*args.clip_db))
    if chance(rng, args.coded):
        x = coded(x, rng.uniform(*args.coding), sample_rate)
    return x


# ---------------------------------------------------------------------------------------------------------------------
# single ones


def impulse_response(rt60_s: float, direct_db: float, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """The direct sound, at once and of gain 1, and noise that falls by 60 dB in rt60_s: a diffuse room. -> [N]"""
    t = np.arange(max(2, round(rt60_s * sample_rate))) / sample_rate
    room = rng.standard_normal(len(t)) * 10 ** (-3 * t / rt60_s) * (t >= DRY_S)
    energy = room @ room
    room *= np.sqrt(10 ** (-direct_db / 10) / energy) if energy else 0.0
    room[0] = 1
    return room.astype(np.float32)


def in_a_room(x: np.ndarray, response: np.ndarray) -> np.ndarray:
    """[T], [N] -> [T]"""
    n = next_fast_len(len(x) + len(response) - 1, real=True)
    return irfft(rfft(x, n) * rfft(response, n), n)[: len(x)].astype(np.float32)


def n_points(sample_rate: int) -> int:
    """Of an equaliser: octaves from EQ_HZ up to half the rate."""
    return 1 + max(1, math.ceil(math.log2(sample_rate / 2 / EQ_HZ)))


def equalised(x: np.ndarray, gains_db: np.ndarray, sample_rate: int) -> np.ndarray:
    """Gains at octaves from EQ_HZ on, in between by straight lines over log frequency; no delay. [T], [K] -> [T]"""
    points = np.log2(EQ_HZ) + np.arange(len(gains_db))

    def gain(hz: np.ndarray) -> np.ndarray:
        return 10 ** (np.interp(np.log2(np.maximum(hz, 1.0)), points, gains_db) / 20)

    return filtered(x, gain, sample_rate)


def muffled(x: np.ndarray, cutoff_hz: float, sample_rate: int) -> np.ndarray:
    """Without what is above; the edge is a tenth of it wide. [T] -> [T]"""
    return filtered(x, lambda hz: np.clip((cutoff_hz - hz) / (0.1 * cutoff_hz), 0, 1), sample_rate)


def filtered(x: np.ndarray, gain, sample_rate: int) -> np.ndarray:
    """By gain(hz) of every frequency, without a delay. [T] -> [T]"""
    n = next_fast_len(2 * len(x), real=True)  # padded, or its end would leak into its start
    spectrum = rfft(x, n) * gain(rfftfreq(n, 1 / sample_rate)).astype(np.float32)
    return irfft(spectrum, n)[: len(x)].astype(np.float32)


def clipped(x: np.ndarray, db: float) -> np.ndarray:
    """So far under its peak. [T] -> [T]"""
    limit = np.float32(np.abs(x).max() * 10 ** (-db / 20))
    return np.clip(x, -limit, limit)


def coded(x: np.ndarray, compression: float, sample_rate: int) -> np.ndarray:
    """Encoded and decoded. [T] -> [T]"""
    memory = io.BytesIO()
    with sf.SoundFile(
        memory, "w", sample_rate, 1, "VORBIS", format="OGG", compression_level=float(compression)
    ) as f:
        for at in range(0, len(x), BLOCK):
            f.write(x[at : at + BLOCK])
    memory.seek(0)
    with sf.SoundFile(memory) as f:
        return f.read(len(x), dtype="float32", fill_value=0.0)
