"""What several test files share: the smallest net in a checkpoint like those that train.py writes."""

from dataclasses import asdict

import pytest
import torch
from hypothesis import settings

from dptnet import DPTNet, DPTNetArgs
from extractor.losses import LossArgs

settings.register_profile("slow machines", deadline=None, derandomize=True)
settings.load_profile("slow machines")

TINY = DPTNetArgs(kernel=16, n_filters=16, bottleneck=8, hidden=8, n_blocks=1, n_heads=2, chunk_frames=20)


@pytest.fixture
def state() -> dict:
    """The content of a checkpoint, after one step; the averaged weights `ema` are not those of `net`."""
    torch.manual_seed(0)
    net, average = DPTNet(TINY), DPTNet(TINY)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.randn(1, 100)).sum().backward()
    optimizer.step()
    return {
        "family": "dptnet",
        "args": {"name": "speaker", "model": asdict(TINY), "loss": asdict(LossArgs())},
        "net": net.state_dict(),
        "ema": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": {"steps": 1, "warmup": 0, "lr": 1e-3},
        "step": 1,
        "epoch": 0,
        "rng": torch.get_rng_state(),
        "best": -3.5,
        "versions": {"torch": str(torch.__version__), "numpy": "1.2.3"},
    }
