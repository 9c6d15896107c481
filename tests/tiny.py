"""What tests of training share: a run of seconds, and what it leaves."""

from pathlib import Path

import torch
from conftest import RATE
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

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
        model=NET, steps=6, batch_size=2, warmup=2, valid_every=3, save_every=1, workers=0, device="cpu",
    )


def weights(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, by name."""
    found = {}

    def walk(name, value):
        if isinstance(value, dict):
            for k, v in value.items():
                walk(f"{name}.{k}", v)
        elif isinstance(value, torch.Tensor):
            found[name] = value

    walk("", checkpoint.load(path))
    return found


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]):
    assert a.keys() == b.keys() and len(a) > 50
    assert not [name for name in a if not torch.equal(a[name], b[name])]


def scalars(folder: Path) -> dict[str, list[float]]:
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
