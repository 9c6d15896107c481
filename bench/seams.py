"""How far pieces of a recording differ from the recording in one go, over all of it and within 0.5 s of the seams.

    python -m bench.seams --checkpoint runs/alice/best.pt --inputs "datasets/dirty/alice/**/*.ogg"
"""

import glob
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

import models
from extractor import audio
from extractor.chunked import extract_long
from extractor.command import command_line


@dataclass(frozen=True)
class BenchArgs:
    checkpoint: str = "runs/speaker/best.pt"
    inputs: str = "datasets/dirty/speaker/**/*.ogg"
    seconds: int = 60  # of every recording, from its start
    sizes_s: tuple[tuple[int, float], ...] = ((10, 1.0), (10, 0.5), (10, 2.0), (5, 1.0), (20, 1.0))  # piece, context


def main(args: BenchArgs):
    net, family = models.load(args.checkpoint)
    rate = net.args.sample_rate

    @torch.inference_mode()
    def extract(x: np.ndarray, start: int, n: int) -> np.ndarray:
        return family.extract(net, torch.from_numpy(x[start : start + n])[None], start)[0].numpy()

    print("difference from one go over its level, dB\n\n| recording | piece s | context s | all | at seams |")
    print("|---|---|---|---|---|")
    for path in sorted(glob.glob(args.inputs, recursive=True)):
        x = audio.read(audio.probe(path), 0, args.seconds * rate, rate)
        whole = extract(x, 0, len(x))
        for piece_s, context_s in args.sizes_s:
            sizes = {"chunk": piece_s * rate, "context": round(context_s * rate), "fade": rate // 10}
            pieces = np.concatenate(list(extract_long(partial(extract, x), len(x), **sizes)))
            t = np.arange(len(x)) / rate
            seam = (np.abs((t + piece_s / 2) % piece_s - piece_s / 2) < 0.5) & (t > 0.5) & (t < args.seconds - 0.5)
            cells = " | ".join(f"{difference_db(pieces[part], whole[part]):.1f}" for part in (slice(None), seam))
            print(f"| {path.split('/')[-2]} | {piece_s} | {context_s} | {cells} |", flush=True)


def difference_db(estimate: np.ndarray, reference: np.ndarray) -> float:
    return 10 * np.log10(np.square(estimate - reference).sum() / np.square(reference).sum())


if __name__ == "__main__":
    main(command_line(BenchArgs()))
