"""Mixtures made on the fly: a clean clip, shifted, under a random segment of everything else.

An item is a function of (seed, epoch, index) alone, whatever the number of workers. Of every recording only the segment
that an item needs is read from the disk.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

import augment
from extractor import UserError, audio
from extractor.levels import QUIET_DB, level_db
from extractor.material import Material, Source

KINDS = ("game", "voice", "both", "absent")  # of validation mixtures: what lies over the target
TRIES = 20      # draws of a source before silence is taken for an answer


@dataclass(frozen=True)
class MixtureArgs:
    clean: tuple[str, ...] = ("datasets/clean/speaker",)  # folders of the speaker alone, searched to any depth
    dirty: tuple[str, ...] = ("datasets/dirty/other",)    # folders of everything else; never the speaker's own
    captures: tuple[str, ...] = ()  # to compare with: what infer.py is for; (): dirty/<speaker> beside `dirty`
    voices: str = "voices"        # name of the dirty scenes that hold other people's voices and nothing else
    segment_s: float = 4.0        # length of an item
    max_shift: float = 0.2        # of the segment; the target is shifted by a uniform share of +- this
    snr_db: tuple[float, float] = (-5.0, 10.0)       # uniform; target over interference, energies of the segment
    voice_db: tuple[float, float] = (-5.0, 5.0)      # uniform; a second source that is a voice, over the first
    speed: tuple[float, float] = (0.7, 1.4)  # log-uniform; interference is played so many times as fast, pitch and all
    p_no_target: float = 0.05     # share of items without the target: other voices only
    p_no_interference: float = 0.02  # share of items without interference
    p_two_sources: float = 0.25   # share of the items with both target and interference that have a voice over a game
    p_voice: float = 0.5          # share of the items with one source that have a voice, whatever the minutes of each
    valid_share: float = 0.1      # of the material, held out: clean recordings, the end of dirty ones, some short ones
    n_valid: int = 48             # frozen validation mixtures
    seed: int = 0

    def __post_init__(self):
        if not 0.01 <= self.segment_s < math.inf:
            raise UserError(f"MixtureArgs.segment_s = {self.segment_s}: give a length of 0.01 s or more")
        if not 0 <= self.max_shift < 1:
            raise UserError(f"MixtureArgs.max_shift = {self.max_shift}: give a share of the segment, 0 to below 1")
        for name in ("snr_db", "voice_db"):
            low, high = getattr(self, name)
            if low > high:
                raise UserError(f"MixtureArgs.{name} = {low, high}: the lower end comes first")
        low, high = self.speed
        if not 0.25 <= low <= high <= 4:
            raise UserError(f"MixtureArgs.speed = {low, high}: give two numbers in order, each from 0.25 to 4")
        for name in (f.name for f in fields(self) if f.name.startswith("p_")):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"MixtureArgs.{name} = {getattr(self, name)}: give a share, 0 to 1")
        if self.p_no_target + self.p_no_interference > 1:
            shares = f"p_no_target = {self.p_no_target}, p_no_interference = {self.p_no_interference}"
            raise UserError(f"MixtureArgs.{shares}: give at most 1 together")
        if self.seed < 0 or self.n_valid < 1:
            raise UserError(f"MixtureArgs.seed = {self.seed}, n_valid = {self.n_valid}: give 0 or more, 1 or more")
        if not 0 < self.valid_share < 1:
            raise UserError(f"MixtureArgs.valid_share = {self.valid_share}: give a share between 0 and 1")

    def of_validation(self) -> "MixtureArgs":
        """These args where only what a frozen validation mixture depends on is kept; folders may be written in several
        ways, and what they hold is compared apart."""
        return replace(
            self, clean=(), dirty=(), captures=(), speed=(1.0, 1.0), p_no_target=0.0, p_no_interference=0.0,
            p_two_sources=0.0, p_voice=0.0,
        )


def of_kind(kind: str) -> tuple[bool, str]:
    """Whether the target is there in a mixture of this kind, and what lies over it."""
    return (False, "voice") if kind == "absent" else (True, kind)


def under_conditions(index: int) -> bool:
    """Whether a validation mixture is augmented: of every other four, one of each kind."""
    return index // len(KINDS) % 2 == 1


class Pool:
    """Sources to draw from, every second of them equally likely."""

    def __init__(self, sources: Sequence[Source]):
        self.sources = list(sources)
        self.ends = np.cumsum([s.length for s in self.sources])

    def __len__(self) -> int:
        return len(self.sources)

    def draw(self, rng: np.random.Generator) -> tuple[Source, int]:
        """A source and a position in it."""
        position = int(rng.integers(self.ends[-1]))
        i = int(np.searchsorted(self.ends, position, side="right"))
        return self.sources[i], position - int(self.ends[i] - self.sources[i].length)


# ---------------------------------------------------------------------------------------------------------------------
# the arithmetic of a mixture


def shift(target: np.ndarray, offset: int) -> np.ndarray:
    """Move by `offset` samples (right if positive) under zero padding, length kept. [T] -> [T]"""
    out = np.zeros_like(target)
    n = len(target) - abs(offset)
    if n > 0:
        out[max(0, offset) :][:n] = target[max(0, -offset) :][:n]
    return out


def at_snr(interference: np.ndarray, *, under: np.ndarray, snr_db: float) -> np.ndarray:
    """The interference, scaled to lie `snr_db` under (or, if negative, over) the other signal. [T] -> [T]"""
    return interference * np.float32(10 ** ((level_db(under) - level_db(interference) - snr_db) / 20))


def mix(target: np.ndarray, interference: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """mixture = target + interference; all three turned down alike where one would pass full scale. -> 3 x [T]"""
    peak = max(np.abs(x).max() for x in (target + interference, target, interference))
    gain = np.float32(1 / max(1.0, peak))
    target, interference = target * gain, interference * gain
    return target + interference, target, interference


# ---------------------------------------------------------------------------------------------------------------------


class MixtureDataset(Dataset):
    """Keys are (epoch, index); items are {"mixture": [T], "target": [T], "interference": [T]} float32, and "seed": [],
    for what a loss may draw, "unread": [], how many draws from recordings failed on the way.

    mixture = target + interference. `augmented`: what is done to them, by default nothing; in validation, to half of
    them (`under_conditions`).
    `held`: seconds of clean clips that are for validation; by default what `Material.held_out` draws.
    Raises UserError where nothing can be read any more."""

    def __init__(
        self, material: Material, args: MixtureArgs, sample_rate: int, *, split: str,
        augmented: augment.AugmentArgs | None = None, held: Mapping[Path, float] | None = None,
    ):
        clean, games, voices = material.split(split, args, sample_rate, held)
        self.args = args if split == "train" else args.of_validation()
        self.sample_rate, self.split = sample_rate, split
        self.augment = augmented or augment.OFF
        self.n_samples = round(args.segment_s * sample_rate)
        self.clean, self.games, self.voices, self.dirty = Pool(clean), Pool(games), Pool(voices), Pool(games + voices)
        self.broken: set[Path] = set()
        self.unread = 0  # draws from recordings that could not be read

    def __len__(self) -> int:
        return self.args.n_valid if self.split == "valid" else 1 << 62  # training items never run out

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        (epoch, index), unread = key, self.unread
        rng = np.random.default_rng((self.args.seed, self.split == "valid", epoch, index))
        present, over = self.kind(rng) if self.split == "train" else of_kind(KINDS[index % len(KINDS)])
        as_recorded = self.split == "valid" and not under_conditions(index)
        capture = augment.draw(augment.OFF if as_recorded else self.augment, rng)
        target = self.target(rng, capture) if present else np.zeros(self.n_samples, np.float32)
        interference = self.interference(rng, over, capture)
        if level_db(target) > QUIET_DB and level_db(interference) > QUIET_DB:
            interference = at_snr(interference, under=target, snr_db=rng.uniform(*self.args.snr_db))
        if (noise := augment.hiss(self.n_samples, capture, rng, self.sample_rate)) is not None:
            mixture, snr_db = target + interference, rng.uniform(*capture.args.hiss_db)
            interference = interference + at_snr(noise, under=mixture, snr_db=snr_db)
        names, signals = ("mixture", "target", "interference"), mix(target, interference)
        item = {name: torch.from_numpy(x) for name, x in zip(names, signals, strict=True)}
        numbers = {"seed": rng.integers(1 << 62), "unread": self.unread - unread}
        return item | {name: torch.tensor(number) for name, number in numbers.items()}

    def kind(self, rng: np.random.Generator) -> tuple[bool, str]:
        """Whether the target is there, and what lies over it: "game", "voice", "both", or "nothing"."""
        args, u = self.args, rng.random()
        if u < args.p_no_target:
            return of_kind("absent")
        if u < args.p_no_target + args.p_no_interference:
            return True, "nothing"
        return True, "both" if rng.random() < args.p_two_sources else "voice" if rng.random() < args.p_voice else "game"

    def target(self, rng: np.random.Generator, capture: augment.Capture) -> np.ndarray:
        """A clean clip, cropped at random if longer, shifted under zero padding. -> [T]"""
        return augment.target(self.loud(rng, self.clean_draw), capture, rng, self.sample_rate)

    def clean_draw(self, rng: np.random.Generator) -> np.ndarray:
        source, _ = self.clean.draw(rng)
        spare = source.length - self.n_samples
        start = source.start + (int(rng.integers(spare + 1)) if spare > 0 else 0)
        clip = audio.read(source.recording, start, min(self.n_samples, source.length), self.sample_rate)
        if spare < 0:
            clip = np.pad(clip, (before := int(rng.integers(1 - spare)), -spare - before))
        reach = round(self.args.max_shift * self.n_samples)
        return shift(clip, int(rng.integers(-reach, reach + 1)))

    def interference(self, rng: np.random.Generator, over: str, capture: augment.Capture) -> np.ndarray:
        if over == "nothing":
            return np.zeros(self.n_samples, np.float32)
        if over == "both" and self.games and self.voices:
            return self.over(rng, *(self.dirty_segment(rng, pool, capture) for pool in (self.games, self.voices)))
        return self.dirty_segment(rng, {"game": self.games, "voice": self.voices}.get(over) or self.dirty, capture)

    def over(self, rng: np.random.Generator, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Both, the second one louder than the first by a draw from voice_db. [T], [T] -> [T]"""
        if min(level_db(first), level_db(second)) > QUIET_DB:
            second = at_snr(second, under=first, snr_db=-rng.uniform(*self.args.voice_db))
        return first + second

    def dirty_segment(self, rng: np.random.Generator, pool: Pool, capture: augment.Capture) -> np.ndarray:
        segment = self.loud(rng, lambda rng: self.dirty_draw(rng, pool))
        return augment.source(segment, capture, rng, self.sample_rate)

    def dirty_draw(self, rng: np.random.Generator, pool: Pool) -> np.ndarray:
        """A segment from a random position; where the recording ends it goes on from its start, so that every second
        is equally likely, in long files and short ones. -> [T]"""
        source, position = pool.draw(rng)
        rate = self.played_rate(rng)
        start, at, end = (
            n * rate // self.sample_rate for n in (source.start, source.start + position, source.start + source.length)
        )
        end = max(end, start + 1)
        pieces, missing = [], self.n_samples
        while missing:
            n = min(missing, end - at)
            pieces.append(audio.read(source.recording, at, n, rate))
            missing, at = missing - n, start
        return np.concatenate(pieces)

    def played_rate(self, rng: np.random.Generator) -> int:
        """The rate to read at, so that samples taken for ones at the net's rate play at a random speed."""
        slowest, fastest = self.args.speed
        if slowest == fastest == 1:
            return self.sample_rate
        speed = np.exp(rng.uniform(*np.log((slowest, fastest))))
        step = max(1, self.sample_rate // 100)  # of a common divisor, or the resampler would need filters without end
        least, most = math.ceil(self.sample_rate / fastest / step), math.floor(self.sample_rate / slowest / step)
        nearest = round(self.sample_rate / speed / step)
        return max(1, min(max(nearest, least), most) if least <= most else nearest) * step

    def loud(self, rng: np.random.Generator, draw) -> np.ndarray:
        """Draw until it is not silence; a file that fails is named once and drawn over."""
        out, failed = np.zeros(self.n_samples, np.float32), 0
        for _ in range(TRIES):
            try:
                out = draw(rng)
            except UserError as e:
                self.unread, failed = self.unread + 1, failed + 1
                if failed == TRIES:
                    raise UserError(f"none of {TRIES} draws could be read, the last one: {e}") from None
                if e.path not in self.broken:
                    self.broken.add(e.path)
                    warnings.warn(f"passed over: {e}", stacklevel=2)
                continue
            if level_db(out) > QUIET_DB:
                break
        return out


class Reported(Dataset):
    """The items of a MixtureDataset without "interference", which training never reads, and "error": "", or where one
    cannot be made, silence and what went wrong: what a DataLoader's worker raises would come back as a traceback in a
    text."""

    def __init__(self, mixtures: MixtureDataset):
        self.mixtures = mixtures

    def __len__(self) -> int:
        return len(self.mixtures)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor | str]:
        try:
            item = self.mixtures[key] | {"error": ""}
        except UserError as e:
            silence, none = torch.zeros(self.mixtures.n_samples), torch.tensor(0)
            return {"mixture": silence, "target": silence, "seed": none, "unread": none, "error": str(e)}
        del item["interference"]
        return item


class TrainingSampler:
    """Training items from a step on, as (epoch, index), without end; a sampler. Of the `batch_size` items of a step it
    gives `n`, from number `first` on: the others are for other processes."""

    def __init__(self, step: int, batch_size: int, steps_per_epoch: int, first: int, n: int):
        self.step, self.batch_size, self.steps_per_epoch = step, batch_size, steps_per_epoch
        self.part = range(first, first + n)

    def __iter__(self):
        for step in count(self.step):
            epoch, step = divmod(step, self.steps_per_epoch)
            for i in self.part:
                yield epoch, step * self.batch_size + i
