"""A hundred thousand recordings: how long it takes to find them, and what memory mixtures take.

    python -m bench.many_files
    python -m bench.many_files --files 10000

Files of a second, hard links of a few, in folders of a thousand. The second time they are known (extractor/index.py).
"""

import os
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf

from dataset import MixtureArgs, MixtureDataset
from extractor.command import command_line
from extractor.material import find_material

RATE = 44100


@dataclass(frozen=True)
class BenchArgs:
    files: int = 100_000
    items: int = 400      # mixtures made


def make_files(folder: Path, n: int):
    rng = np.random.default_rng(0)
    for i in range(n):
        path = folder / f"{'clean/alice' if i % 10 == 0 else 'dirty/other'}/{i // 1000}/src_{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i < 20:
            sf.write(folder / f"sound_{i}.wav", rng.uniform(-0.3, 0.3, RATE), RATE)
        os.link(folder / f"sound_{10 * (i // 10 % 2) + i % 10}.wav", path)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main(args: BenchArgs):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder, args.files)
        data = MixtureArgs((f"{folder}/clean/alice",), (f"{folder}/dirty/other",), segment_s=1.0)
        for time_of in ("first", "second"):
            start = time.monotonic()
            material = find_material(data, index=folder / "recordings.json")
            print(f"found {args.files:,} files the {time_of} time in {time.monotonic() - start:.1f} s", flush=True)
        training = MixtureDataset(material, data, RATE, split="train")
        for part in (0, 1):
            for i in range(part * args.items // 2, (part + 1) * args.items // 2):
                training[0, i]
            print(f"most memory after {(part + 1) * args.items // 2} mixtures: {peak_mib():.0f} MiB")


if __name__ == "__main__":
    main(command_line(BenchArgs()))
