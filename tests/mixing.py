"""What tests of mixtures share. Recordings here have 1000 samples a second and are told apart by their content: a tone
says which kind of source it is."""

from pathlib import Path

import numpy as np
import soundfile as sf

from dataset import MixtureArgs, MixtureDataset
from extractor.material import find_material

RATE = 1000
GAME_HZ, VOICE_HZ = 100, 200
SPLITS = ("train", "valid")


def noise(seconds, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def tone(seconds, hz, peak=0.1):
    return peak * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


def save(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, RATE, "FLOAT" if path.suffix == ".wav" else None)
    return path


def make_folders(tmp_path):
    """Two clean recordings of 1 s, of which one is held out, a game and a voice of 10 s; items of 0.2 s."""
    for i in range(2):
        save(tmp_path / f"datasets/clean/alice/src_{i}.wav", noise(1, seed=i))
    save(tmp_path / "datasets/dirty/pc/game/a.wav", tone(10, GAME_HZ))
    save(tmp_path / "datasets/dirty/pc/voices/a.wav", tone(10, VOICE_HZ))
    return MixtureArgs(
        clean=(str(tmp_path / "datasets/clean/alice"),), dirty=(str(tmp_path / "datasets/dirty/pc"),), segment_s=0.2,
        speed=(1, 1), valid_share=0.2,
    )


def all_clean(args, samples):
    """All clean recordings, replaced: both have these samples, whichever is held out."""
    for i in range(2):
        save(Path(args.clean[0]) / f"src_{i}.wav", samples)


def mixtures(args, split="train"):
    return MixtureDataset(find_material(args), args, RATE, split=split)


def items(args, n, split="train"):
    """Signals of n items, as dicts of arrays."""
    data = mixtures(args, split)
    return [{name: x.numpy() for name, x in data[0, i].items() if x.ndim} for i in range(n)]


def power(x):
    return np.mean(np.square(x, dtype=np.float64))


def power_at(x, hz):
    """Of a tone in x [T], whose length is a multiple of the tone's period."""
    return 2 * np.abs(np.mean(x * np.exp(-2j * np.pi * hz * np.arange(len(x)) / RATE))) ** 2
