"""What several test files share: small nets, a checkpoint like those that train.py writes, and a speaker in noise."""

import os

if n_workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):  # which share the cores; before torch counts them
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, os.cpu_count() // n_workers)))

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from browser import chromium, show  # noqa: F401 - fixtures
from hypothesis import settings
from mixing import make_folders
from scored import half, identity, pairs, quarter  # noqa: F401 - fixtures

from dataset import MixtureArgs
from dptnet import DPTNet, DPTNetArgs
from extractor import checkpoint
from extractor.progress import Progress, saver
from train import MainArgs

settings.register_profile("slow machines", deadline=None, derandomize=True)
settings.load_profile("slow machines")

TINY = DPTNetArgs(kernel=16, n_filters=16, bottleneck=8, hidden=8, n_blocks=1, n_heads=2, chunk_frames=20)


def pytest_collection_modifyitems(items):
    """Quick ones first. Where processes share them each begins with an equal part of the list: the longest stand at the
    start of these parts, so that quick ones are left to share at the end."""
    slow = {item: mark.args[0] for item in items if (mark := item.get_closest_marker("slow"))}
    longest, quick = sorted(slow, key=slow.get, reverse=True), [item for item in items if item not in slow]
    if not n_workers:
        items[:] = quick + longest[::-1]
        return
    size, parts = -(-len(items) // n_workers), []
    for n in range(n_workers):
        mine = longest[n::n_workers]
        n_quick = max(0, size - len(mine))
        parts += mine + quick[:n_quick]
        quick = quick[n_quick:]
    items[:] = parts + quick


@pytest.fixture
def state(tmp_path_factory) -> dict:
    """The content of a checkpoint, after one step; the averaged weights `ema` are not those of `net`."""
    torch.manual_seed(0)
    net, average = DPTNet(TINY), DPTNet(TINY)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.randn(1, 100)).sum().backward()
    optimizer.step()
    args = MainArgs(runs=str(tmp_path_factory.mktemp("runs")), model=TINY, steps=1, warmup=0)
    saver(args, {"family": "dptnet"}, net, average, [optimizer])("last.pt", Progress(step=1, best=-3.5))
    return checkpoint.load(args.folder / "last.pt")


RATE = 4000  # of these recordings


@pytest.fixture(scope="session")
def recordings(tmp_path_factory) -> Path:
    """A speaker who hums a falling tone, a hissing game, and another voice that hums higher."""
    folder = tmp_path_factory.mktemp("recordings")
    rng, t = np.random.default_rng(0), np.arange(6 * RATE) / RATE
    hum = np.sin(2 * np.pi * (300 * t - 10 * t**2))
    for path, x in {
        "clean/alice/set/src_0.wav": 0.3 * hum,
        "clean/alice/set/src_1.wav": 0.3 * hum[::-1],
        "dirty/other/game/src_0.flac": 0.2 * rng.uniform(-1, 1, len(t)),
        "dirty/other/voices/bob.wav": 0.3 * np.sin(2 * np.pi * 700 * t),
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        sf.write(folder / path, x, RATE)
    return folder


@pytest.fixture
def folders(tmp_path) -> MixtureArgs:
    """Of mixtures whose sources are told apart by their tones."""
    return make_folders(tmp_path)


@pytest.fixture
def threads(monkeypatch):
    """As many threads as torch is to say that it has."""
    return lambda n: monkeypatch.setattr(torch, "get_num_threads", lambda: n)
