"""What tests of scripts share: a run of seconds, and what it leaves; a folder that another process has."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import torch
from conftest import RATE
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils._pytree import keystr, tree_flatten_with_path

import models
from dataset import MixtureArgs
from dptnet import DPTNetArgs
from extractor import checkpoint
from train import MainArgs

ROOT = Path(__file__).parent.parent
NET = DPTNetArgs(RATE, kernel=32, n_filters=64, bottleneck=16, hidden=16, n_blocks=1, n_heads=2, chunk_frames=16,
                 fourier=True)


def tiny_run(recordings: Path, runs: Path) -> MainArgs:
    return MainArgs(
        name="alice", runs=str(runs),
        data=MixtureArgs((f"{recordings}/clean/alice",), (f"{recordings}/dirty/other",), segment_s=0.5, n_valid=8),
        model=NET, steps=6, batch_size=2, warmup=2, valid_every=3, save_every=1, save_s=0.0, workers=0, device="cpu",
    )


def words_of(model: models.Args) -> list[str]:
    """The command line that makes a preset of the family these args."""
    words = ["--model", next(name for name, preset in models.PRESETS.items() if type(preset) is type(model))]
    for field in fields(model):
        value = getattr(model, field.name)
        if not is_dataclass(value):
            words += ["--model." + field.name.replace("_", "-"), *map(str, np.ravel(value).tolist())]
    return words


def tiny_command(recordings: Path, runs: Path, name: str, model: models.Args = NET, **others) -> list[str]:
    """The same run as words after `python`, with other fields of MainArgs."""
    others = {"steps": 6, "batch_size": 2, "warmup": 2, "valid_every": 3, "save_every": 1, "workers": 0} | others
    words = [w for field, value in others.items() for w in (f"--{field.replace('_', '-')}", str(value))]
    return [
        "train.py", "--name", name, "--runs", str(runs), "--device", "cpu", "--precision", "fp32", "--save-s", "0",
        *words, "--data.clean", f"{recordings}/clean/alice", "--data.dirty", f"{recordings}/dirty/other",
        "--data.segment-s", "0.5", "--data.n-valid", "8", *words_of(model),
    ]


def weights(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, by name."""
    leaves, _ = tree_flatten_with_path(checkpoint.load(path))
    return {keystr(name): leaf for name, leaf in leaves if isinstance(leaf, torch.Tensor)}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]):
    assert a.keys() == b.keys() and len(a) > 50
    assert not [name for name in a if not torch.equal(a[name], b[name])]


def assert_near(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]):
    """Nets and their averages are the same but for rounding, which Adam makes much of where a gradient is near 0."""
    names = [name for name in a if name.startswith(("['net']", "['ema']"))]
    one, two = (torch.cat([x[name].flatten() for name in names]) for x in (a, b))
    assert len(names) > 20 and (one - two).norm() < 1e-4 * one.norm()


@contextmanager
def held_elsewhere(path: Path, lock: str) -> Iterator[subprocess.Popen]:
    """Another process holds a lock, a name in extractor.files, on a file or a folder."""
    hold = f"import sys, time; from pathlib import Path; from extractor.files import {lock}\n" \
           f"with {lock}(Path(sys.argv[1])) as it:\n" \
           "    getattr(it, 'join', bool)(); print('mine', flush=True); time.sleep(600)"
    other = subprocess.Popen([sys.executable, "-c", hold, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "mine\n"
    try:
        yield other
    finally:
        other.kill()
        other.wait()


def alone_in_elsewhere(folder: Path):
    """Another process has the folder to itself."""
    return held_elsewhere(folder, "folder_lock")


def scalars(folder: Path) -> dict[str, list[float]]:
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
