"""Small recordings and pairs, runs of infer.py and evaluate.py, and what stands in for checkpoints and enhancers.

All numbers are then known beforehand.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from torch import nn

import evaluate
import infer as extraction
import models
from evaluate import EvalArgs
from extractor import baselines, checkpoint

RATE, N = 44100, 20_000


@pytest.fixture
def half(monkeypatch, state, tmp_path) -> str:
    """The path of a checkpoint; every checkpoint holds a net that turns its mixture down by half."""
    path = tmp_path / "runs" / "alice" / "best.pt"
    checkpoint.save(path, state)
    net_does(monkeypatch, lambda mixture: mixture / 2)
    return str(path)


def net_does(monkeypatch, extract):
    net = nn.Identity()
    net.args, net.bandwidth_hz = models.FAMILIES["dptnet"].args(sample_rate=RATE), None
    family = models.FAMILIES["dptnet"]._replace(extract=lambda net, mixture, start: extract(mixture))
    monkeypatch.setattr(models, "load", lambda path: (net, family))


@pytest.fixture
def identity(monkeypatch):
    """Every checkpoint holds the identity."""
    net_does(monkeypatch, lambda mixture: mixture)


def uniform(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, shape).astype(np.float32)


def two_signals(seed: int = 0, n: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Of equal energy, without means, orthogonal: SI-SDR is the ratio of what is made of them."""
    x, y = np.random.default_rng(seed).normal(size=(2, n))
    x, y = x - x.mean(), y - y.mean()
    y -= x * (x @ y) / (x @ x)
    return 0.1 * x / x.std(), 0.1 * y / y.std()


def put(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str = "FLOAT") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, rate, subtype)
    return path


def infer(tmp_path: Path, inputs: str = "in", checkpoint="runs/alice/best.pt", *, out: str = "out", **fields) -> list:
    """What failed of the inputs in tmp_path."""
    inputs, out_dir = (str(tmp_path / name) for name in (inputs, out))
    return extraction.main(extraction.InferArgs(str(checkpoint), inputs, out_dir, **fields))


def extracted(tmp_path: Path, name: str = "a") -> np.ndarray:
    return sf.read(tmp_path / "out" / f"{name}.wav")[0]


def put_pair(folder: Path, name: str, snr_db: float | None = 0.0, *, seed: int = 0, n: int = N, rate: int = RATE):
    """snr_db: None where the target is silent. Returns target and interference. [T]"""
    target, interference = two_signals(seed, n)
    target = 0 * target if snr_db is None else 10 ** (snr_db / 20) * target
    put(folder / "mixture" / f"{name}.wav", target + interference, rate)
    put(folder / "target" / f"{name}.wav", target, rate)
    return target, interference


def put_list(folder: Path, *lines: str):
    (folder / "list.tsv").write_text("\n".join(["name\tkind\tsnr_db\ttext", *lines]) + "\n", encoding="utf-8")


def run(tmp_path: Path, *systems: str, **changed) -> dict:
    """scores.json, read as other programs read it."""
    folders = {"pairs": str(tmp_path / "pairs"), "out_dir": str(tmp_path / "out")}
    evaluate.main(EvalArgs(systems, **folders, **{"device": "cpu", "perceptual": False, "page": False} | changed))
    return written(tmp_path)


def written(tmp_path: Path) -> dict:
    def refuse(word: str):
        raise AssertionError(f"{word} is no JSON")

    return json.loads((tmp_path / "out" / "scores.json").read_text("utf-8"), parse_constant=refuse)


@pytest.fixture
def pairs(tmp_path) -> Path:
    """a and b, the speaker as loud as everything else."""
    put_pair(tmp_path / "pairs", "a")
    put_pair(tmp_path / "pairs", "b", seed=1)
    return tmp_path / "pairs"


def folder_of(tmp_path: Path, name: str, make, names: str = "ab") -> str:
    """A folder of estimates: make(target, interference) of each pair of `pairs`."""
    for i, pair in enumerate(names):
        put(tmp_path / name / f"{pair}.wav", make(*two_signals(seed=i)))
    return str(tmp_path / name)


@pytest.fixture
def quarter(monkeypatch) -> list:
    """The only ready-made enhancer, "quarter"; the list is of the rates at which it was built."""
    told = []

    def load(rate):
        told.append(rate)
        return lambda mixture: mixture / 4

    monkeypatch.setattr(baselines, "BASELINES", {"quarter": baselines.Baseline(load, "einops", None, 0)})
    return told
