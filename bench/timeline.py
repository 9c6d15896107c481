"""How right is the timeline? Pairs of mixture and target, one after another as one recording, by a checkpoint.

    python -m bench.timeline --checkpoint runs/alice/best.pt --pairs evaluation

What is said is known from the target: where it is within TRUE_DB of its speech's level.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extractor import audio, scoring, timeline
from extractor.levels import HOP_S, hop_of, hop_powers
from extractor.script import command_line
from extractor.tables import markdown
from infer import Extractor

TRUE_DB = 30.0  # softer than in extractor/timeline.py, since nothing else is in the target


@dataclass(frozen=True)
class BenchArgs:
    checkpoint: str = "runs/speaker/best.pt"
    pairs: str = "evaluation"  # a folder with mixture/ and target/
    device: str = "auto"       # auto, cpu, cuda, cuda:1


def main(args: BenchArgs):
    extract = Extractor(args.checkpoint, device=args.device)
    rate = extract.sample_rate
    pairs = scoring.find_pairs(Path(args.pairs))
    mixture, target = (
        np.concatenate([audio.read(recording, 0, recording.length(rate), rate) for recording in recordings])
        for recordings in ([pair.mixture for pair in pairs], [pair.target for pair in pairs])
    )
    mixed, kept, true = (hop_powers(x[:, None], hop_of(rate))[0] for x in (mixture, extract(mixture, rate), target))
    print(table(timeline.spans(true, true, speech_db=TRUE_DB, side_s=0), timeline.spans(mixed, kept), len(true)))


def table(true: list[tuple[float, float]], found: list[tuple[float, float]], n_hops: int) -> str:
    """Compares spans in s: shares of time in common, and how far the nearest start and end of those found lie."""
    there, here = (of_hops(spans, n_hops) for spans in (true, found))
    both = np.logical_and(there, here).sum()
    shares = [f"{both / max(1, np.sum(spans)):.3f}" for spans in (there, here)]
    errors = [
        np.abs(np.subtract.outer([span[i] for span in true], [span[i] for span in found])).min(axis=1)
        for i in (0, 1) if true and found
    ]
    parts = [f"{np.median(e):.2f}, {np.percentile(e, 90):.2f}" for e in errors] or ["-", "-"]
    heads = ["of the speech found", "of what is found speech", "starts, s: median, 90 %", "ends"]
    return markdown(heads, [[*shares, *parts]])


def of_hops(spans: list[tuple[float, float]], n_hops: int) -> np.ndarray:
    """Says of every hop whether it is in a span. -> [L]"""
    inside = np.zeros(n_hops, bool)
    for start, end in spans:
        inside[round(start / HOP_S) : round(end / HOP_S)] = True
    return inside


args = BenchArgs()

if __name__ == "__main__":
    main(command_line(args))
