"""Mixtures made on the fly: a clean clip, shifted, under a random segment of everything else.

An item is a function of (seed, epoch, index) alone, whatever the number of workers. Of every recording only the segment
that an item needs is read from the disk.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

import augment
from extractor import UserError, audio, check_counts, check_limits, check_shares, require
from extractor.levels import QUIET_DB, level_db
from extractor.material import Material, Source, is_extracted

KINDS = ("game", "voice", "both", "absent")  # of validation mixtures: what lies over the target; absent: none, a voice
TRIES = 20      # draws of a source before silence is taken for an answer


@dataclass(frozen=True)
class MixtureArgs:
    clean: tuple[str, ...] = ("datasets/clean/speaker",)  # folders of the speaker alone, searched to any depth
    dirty: tuple[str, ...] = ("datasets/dirty/other",)    # folders of everything else; never the speaker's own
    captures: tuple[str, ...] = ()  # to compare with: what infer.py is for; (): dirty/<speaker> beside `dirty`
    audio_stream: int = 0         # the one to use where a film has several
    voices: str = "voices"        # name of the dirty scenes that hold other people's voices and nothing else
    segment_s: float = 4.0        # length of an item
    max_shift: float = 0.2        # of the segment; the target is shifted by a uniform share of +- this
    snr_db: tuple[float, float] = (-5.0, 10.0)       # uniform; target over interference, energies of the segment
    voice_db: tuple[float, float] = (-5.0, 5.0)      # uniform; a second source that is a voice, over the first
    speed: tuple[float, float] = (0.7, 1.4)  # log-uniform; interference is played so many times as fast, pitch and all
    p_no_target: float = 0.05     # share of items without the target: other voices only
    p_no_interference: float = 0.02  # share of items without interference
    p_two_sources: float = 0.25   # share of the items with both target and interference that have a voice over a game
    p_extracted: float = 0.3      # share of the targets that are clips from bootstrap.py, where there are some
    p_voice: float = 0.5          # share of the items with one source that have a voice, whatever the minutes of each
    valid_share: float = 0.1      # of the material, held out: clean recordings, the end of dirty ones, some short ones
    n_valid: int = 48             # frozen validation mixtures
    seed: int = 0

    def __post_init__(self):
        require(self, "segment_s", 0.01 <= self.segment_s < math.inf, "give a length of 0.01 s or more")
        require(self, "max_shift", 0 <= self.max_shift < 1, "give a share of the segment, 0 to below 1")
        check_limits(self, "snr_db")
        check_limits(self, "voice_db")
        check_limits(self, "speed", 0.25, 4)
        check_shares(self)
        remedy = f"with p_no_interference = {self.p_no_interference} give at most 1 together"
        require(self, "p_no_target", self.p_no_target + self.p_no_interference <= 1, remedy)
        require(self, "valid_share", 0 < self.valid_share < 1, "give a share between 0 and 1")
        check_counts(self, "n_valid")
        require(self, "seed", self.seed >= 0, "give 0 or more")

    def of_validation(self) -> "MixtureArgs":
        """Keeps only what a frozen validation mixture depends on. What is in the folders is compared elsewhere."""
        return replace(
            self, clean=(), dirty=(), captures=(), audio_stream=0, speed=(1.0, 1.0),
            p_no_target=0.0, p_no_interference=0.0, p_two_sources=0.0, p_voice=0.0, p_extracted=0.0,
        )


def under_conditions(index: int) -> bool:
    """Says whether a validation mixture is augmented: every other four are, one of each kind."""
    return index // len(KINDS) % 2 == 1


class Pool:
    """Sources to draw from, every second of them equally likely."""

    def __init__(self, sources: Sequence[Source]):
        self.sources = list(sources)
        self.ends = np.cumsum([s.length for s in self.sources])

    def __len__(self) -> int:
        return len(self.sources)

    def draw(self, rng: np.random.Generator) -> tuple[Source, int]:
        """Draws a source and a position in it."""
        position = int(rng.integers(self.ends[-1]))
        i = int(np.searchsorted(self.ends, position, side="right"))
        return self.sources[i], position - int(self.ends[i] - self.sources[i].length)


# --- the arithmetic of a mixture -------------------------------------------------------------------------------------

def shift(target: np.ndarray, offset: int) -> np.ndarray:
    """Moves a signal by `offset` samples (right if positive) under zero padding. [T] -> [T]"""
    right, left = max(0, offset), max(0, -offset)
    return np.pad(target, (right, left))[left:][: len(target)]


def at_snr(interference: np.ndarray, *, under: np.ndarray, snr_db: float) -> np.ndarray:
    """Scales the interference to lie `snr_db` under (or, if negative, over) the other signal. [T] -> [T]"""
    return interference * np.float32(10 ** ((level_db(under) - level_db(interference) - snr_db) / 20))


def mix(target: np.ndarray, interference: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns target + interference and both, all turned down alike where one would pass full scale. -> 3 x [T]"""
    peak = max(np.abs(x).max() for x in (target + interference, target, interference))
    gain = np.float32(1 / max(1.0, peak))
    target, interference = target * gain, interference * gain
    return target + interference, target, interference


class MixtureDataset(Dataset):
    """Keys are (epoch, index); items are {"mixture": [T], "target": [T], "interference": [T]} float32, and "seed": [],
    for what a loss may draw, "speaker": [], the target's number, "unread": [], how many draws from recordings failed on
    the way.

    mixture = target + interference. `augmented`: what is done to them, by default nothing; in validation, to half of
    them (`under_conditions`). `held`: seconds of clean clips that are for validation; by default what
    `Material.held_out` draws. `by_speaker`: every folder of args.clean is a speaker, each equally often the target; all
    others are voices then. Else there is one, with number 0. Raises UserError where nothing can be read any more."""

    def __init__(
        self, material: Material, args: MixtureArgs, sample_rate: int, *, split: str,
        augmented: augment.AugmentArgs | None = None, held: Mapping[Path, float] | None = None,
        by_speaker: bool = False,
    ):
        held = material.held_out(args, by_speaker=by_speaker) if held is None else held
        self.sources = clean, games, voices = material.split(split, args, sample_rate, held)
        self.args = args if split == "train" else args.of_validation()
        self.sample_rate, self.split = sample_rate, split
        self.augment = augmented or augment.OFF
        self.n_samples = round(args.segment_s * sample_rate)
        self.games = Pool(games)
        everyone = [clean]
        if by_speaker:
            owners = {r.path: i for i, own in enumerate(material.by_speaker(args).values()) for r in own}
            everyone = [[] for _ in args.clean]
            for source in clean:
                everyone[owners[source.recording.path]].append(source)
        human, extracted = ([[s for s in own if is_extracted(s.recording.path) is wanted] for own in everyone]
                            for wanted in (False, True))
        self.clean, self.extracted = [*map(Pool, human)], [*map(Pool, extracted)]  # of each speaker
        self.voices = [Pool(voices + [s for other in everyone if other is not own for s in other]) for own in everyone]
        self.broken: set[Path] = set()
        self.unread = 0  # draws from recordings that could not be read

    def __len__(self) -> int:
        return self.args.n_valid if self.split == "valid" else 1 << 62  # training items never run out

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        (epoch, index), unread = key, self.unread
        rng = np.random.default_rng((self.args.seed, self.split == "valid", epoch, index))
        speaker = int(rng.integers(len(self.clean))) if len(self.clean) > 1 else 0
        kind = self.kind(rng) if self.split == "train" else KINDS[index % len(KINDS)]
        as_recorded = self.split == "valid" and not under_conditions(index)
        capture = augment.draw(augment.OFF if as_recorded else self.augment, rng, self.sample_rate)
        heard = target = np.zeros(self.n_samples, np.float32)
        if kind != "absent":
            promoted = self.extracted[speaker]
            pool = promoted if promoted and augment.chance(rng, self.args.p_extracted) else self.clean[speaker]
            heard, target = capture.target(self.loud(rng, self.clean_draw, pool))
        interference = self.interference(rng, kind, capture, self.voices[speaker])
        if level_db(heard) > QUIET_DB and level_db(interference) > QUIET_DB:
            interference = at_snr(interference, under=heard, snr_db=rng.uniform(*self.args.snr_db))
        if (noise := capture.hiss(self.n_samples)) is not None:
            snr_db = rng.uniform(*capture.args.hiss_db)
            interference = interference + at_snr(noise, under=heard + interference, snr_db=snr_db)
        interference = interference + (heard - target)  # with `dereverb`, a room's late sound
        mixture, target, interference = map(torch.from_numpy, mix(target, interference))
        seed, unread = torch.tensor(rng.integers(1 << 62)), torch.tensor(self.unread - unread)
        signals = {"mixture": mixture, "target": target, "interference": interference}
        return signals | {"seed": seed, "speaker": torch.tensor(speaker), "unread": unread}

    def kind(self, rng: np.random.Generator) -> str:
        """Draws one of KINDS, or "alone": the target without interference."""
        args, u = self.args, rng.random()
        if u < args.p_no_target:
            return "absent"
        if u < args.p_no_target + args.p_no_interference:
            return "alone"
        return "both" if rng.random() < args.p_two_sources else "voice" if rng.random() < args.p_voice else "game"

    def clean_draw(self, rng: np.random.Generator, pool: Pool) -> np.ndarray:
        """Reads a clean clip, cropped at random if longer, shifted under zero padding. -> [T]"""
        source, _ = pool.draw(rng)
        spare = source.length - self.n_samples
        start = source.start + (int(rng.integers(spare + 1)) if spare > 0 else 0)
        clip = audio.read(source.recording, start, min(self.n_samples, source.length), self.sample_rate)
        if spare < 0:
            clip = np.pad(clip, (before := int(rng.integers(1 - spare)), -spare - before))
        reach = round(self.args.max_shift * self.n_samples)
        return shift(clip, int(rng.integers(-reach, reach + 1)))

    def interference(self, rng: np.random.Generator, kind: str, capture: augment.Capture, voices: Pool) -> np.ndarray:
        """Draws what lies over the target: nothing, a game, a voice, or both, the voice then voice_db louder. -> [T]"""
        if kind == "alone":
            return np.zeros(self.n_samples, np.float32)
        wanted = {"game": [self.games], "both": [self.games, voices]}.get(kind, [voices])
        pools = [*filter(len, wanted)] or [*filter(len, [self.games, voices])]  # there may be none of one kind
        segments = [capture.source(self.loud(rng, self.dirty_draw, pool)) for pool in pools]
        if len(segments) == 1:
            return segments[0]
        game, voice = segments
        if min(level_db(game), level_db(voice)) > QUIET_DB:
            voice = at_snr(voice, under=game, snr_db=-rng.uniform(*self.args.voice_db))
        return game + voice

    def dirty_draw(self, rng: np.random.Generator, pool: Pool) -> np.ndarray:
        """Reads a segment from a random position. At the end of the recording it goes on from its start, so that every
        second is equally likely, in long files and short ones. -> [T]"""
        source, position = pool.draw(rng)
        rate = self.played_rate(rng)
        places = source.start, source.start + position, source.start + source.length
        start, at, end = (n * rate // self.sample_rate for n in places)
        end = max(end, start + 1)
        pieces, missing = [], self.n_samples
        while missing:
            n = min(missing, end - at)
            pieces.append(audio.read(source.recording, at, n, rate))
            missing, at = missing - n, start
        return np.concatenate(pieces)

    def played_rate(self, rng: np.random.Generator) -> int:
        """Draws the rate to read a recording at: played at the net's rate, it has a random speed."""
        slowest, fastest = self.args.speed
        if slowest == fastest == 1:
            return self.sample_rate
        speed = augment.log_uniform(rng, self.args.speed)
        step = max(1, self.sample_rate // 100)  # of a common divisor, or the resampler would need filters without end
        least, most = math.ceil(self.sample_rate / fastest / step), math.floor(self.sample_rate / slowest / step)
        nearest = round(self.sample_rate / speed / step)
        return max(1, min(max(nearest, least), most) if least <= most else nearest) * step

    def loud(self, rng: np.random.Generator, draw: Callable, pool: Pool) -> np.ndarray:
        """Draws from the pool until it finds more than silence. A file that cannot be read is named once."""
        out, failed = np.zeros(self.n_samples, np.float32), 0
        for _ in range(TRIES):
            try:
                out = draw(rng, pool)
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
    """The items of a MixtureDataset without "interference", which training never reads, and with "error", which is ""
    for an item that could be made. An exception in a DataLoader's worker would arrive as a traceback in a text."""

    def __init__(self, mixtures: MixtureDataset):
        self.mixtures = mixtures

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor | str]:
        try:
            item = self.mixtures[key] | {"error": ""}
        except UserError as e:
            silence, none = torch.zeros(self.mixtures.n_samples), torch.tensor(0)
            signals = {"mixture": silence, "target": silence}
            return signals | {"seed": none, "speaker": none, "unread": none, "error": str(e)}
        del item["interference"]
        return item


class TrainingSampler:
    """Yields the keys (epoch, index) of training items from a step on, without end. Of the `batch_size` items of every
    step it yields `n`, from number `first` on; the others are for other processes."""

    def __init__(self, step: int, batch_size: int, steps_per_epoch: int, first: int, n: int):
        self.step, self.batch_size, self.steps_per_epoch = step, batch_size, steps_per_epoch
        self.part = range(first, first + n)

    def __iter__(self):
        for step in count(self.step):
            epoch, step = divmod(step, self.steps_per_epoch)
            for i in self.part:
                yield epoch, step * self.batch_size + i
