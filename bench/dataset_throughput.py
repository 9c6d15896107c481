"""Mixtures per second: of each recording only the segment read, against whole files loaded and then cut.

    python -m bench.dataset_throughput
    python -m bench.dataset_throughput --clean datasets/clean/alice --dirty datasets/dirty/other

Without folders it makes its own: clips of 10 s and stereo recordings of `minutes`, half of them ogg, half flac. Both
ways make the same mixtures, up to the resampler; they take turns, and the medians are printed.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from unittest.mock import patch

import librosa
import numpy as np
import soundfile as sf
from torch.utils.data import DataLoader

from dataset import MixtureArgs, MixtureDataset
from extractor import audio
from extractor.augment import AugmentArgs
from extractor.command import command_line
from extractor.material import find_material

SAMPLE_RATE = 44100


@dataclass(frozen=True)
class BenchArgs:
    clean: tuple[str, ...] = ()  # folders as in MixtureArgs; none: it makes its own
    dirty: tuple[str, ...] = ()
    files: int = 4               # long recordings made, if none are given
    minutes: float = 10.0        # of each
    mixtures: int = 200          # per round, segments read
    loads: int = 8               # per round, whole files loaded; they are slow
    rounds: int = 3
    workers: tuple[int, ...] = (0, 1, 2)


def main(args: BenchArgs):
    with TemporaryDirectory() as folder:
        clean, dirty = (args.clean, args.dirty) if args.clean else make_recordings(Path(folder), args)
        data_args = MixtureArgs(clean=clean, dirty=dirty)
        data = MixtureDataset(find_material(data_args), data_args, SAMPLE_RATE, split="train", augmented=AugmentArgs())
        speeds = {way: {n: [] for n in args.workers} for way in ("segments", "whole")}
        for _ in range(args.rounds):
            for workers in args.workers:
                speeds["segments"][workers].append(mixtures_per_s(data, args.mixtures, workers))
                with patch.object(audio, "read", load_whole):
                    speeds["whole"][workers].append(mixtures_per_s(data, args.loads, workers))

    recordings = data.games.sources + data.voices.sources
    hours = sum(source.recording.seconds for source in recordings) / 3600
    print(f"{len(recordings)} dirty recordings, {hours:.1f} h; median of {args.rounds} rounds, mixtures/s\n")
    print("| workers | segments read | whole files loaded | ratio |\n|---|---|---|---|")
    for workers in args.workers:
        segments, whole = (median(speeds[way][workers]) for way in ("segments", "whole"))
        print(f"| {workers} | {segments:.1f} | {whole:.2f} | {segments / whole:.0f} |")


def mixtures_per_s(data: MixtureDataset, n: int, workers: int) -> float:
    """From the start of the workers to the last item."""
    start = perf_counter()
    for _ in DataLoader(data, batch_size=1, sampler=[(0, i) for i in range(n)], num_workers=workers):
        pass
    return n / (perf_counter() - start)


def load_whole(recording: audio.Recording, start: int, n: int, sample_rate: int) -> np.ndarray:
    """What audio.read returns inside a recording, the way it is often done. -> [n] float32"""
    samples, _ = librosa.load(recording.path, sr=sample_rate, mono=True)
    return samples[start : start + n]


def make_recordings(folder: Path, args: BenchArgs) -> tuple[tuple[str], tuple[str]]:
    rng = np.random.default_rng(0)
    clean, dirty = folder / "clean", folder / "dirty"
    for path in (clean, dirty):
        path.mkdir()
    for i in range(10):
        sf.write(clean / f"src_{i}.wav", music(10.0, rng), SAMPLE_RATE)
    for i in range(args.files):
        with sf.SoundFile(dirty / f"{i}.{('ogg', 'flac')[i % 2]}", "w", SAMPLE_RATE, 2) as f:
            for _ in range(round(args.minutes * 6)):  # in blocks: libsndfile's ogg encoder takes no long ones
                f.write(music(10.0, rng))
    return (str(clean),), (str(dirty),)


def music(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Two decaying notes a second over noise. -> [T, 2]"""
    t = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    hz = 110 * 2 ** (rng.integers(0, 36, (round(2 * seconds), 1, 2)) / 12)  # [notes, 1, channels]
    notes = 0.2 * np.exp(-6 * t)[:, None] * np.sin(2 * np.pi * hz * t[:, None])
    return (notes + 0.02 * rng.standard_normal(notes.shape)).reshape(-1, 2)


if __name__ == "__main__":
    main(command_line(BenchArgs()))
