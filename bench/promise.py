"""Does the promise of bootstrap.py hold on pairs that no remix knows, as recorded and under conditions?

    python -m bench.promise --folder bootstrap/alice/round_1 --pairs runs/unseen/pairs

Scores the pairs with the round's net, predicts them with what its remixes taught, and prints for every condition of
bench.conditions that is named how many pairs a promise would accept, how many of these are good, and how many are good
in all; and how far the predicted SI-SDR is off.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bench.conditions import AS_RECORDED, CONDITIONS
from bootstrap import REMIXES, STATE, BootstrapArgs, load
from calibration import PREDICTED, WORST_DB, Calibration, scores_of, table_of
from extractor import UserError, audio, tables
from extractor.scoring import find_pairs
from extractor.script import command_line


@dataclass(frozen=True)
class BenchArgs:
    folder: str = "bootstrap/speaker/round_1"   # of a round, after a dry run
    pairs: str = "runs/unseen/pairs"            # as for evaluate.py, of no recording of the round
    conditions: tuple[str, ...] = (
        AS_RECORDED, "low-pass 8 kHz", "Opus 32 kbit/s", "target laptop", "target lapel", "target room 0.4 s, -5 dB",
        "target gated", "limited by 10 dB", "hiss -50 dBFS",
    )
    good_db: tuple[float, ...] = (8.0, 10.0, 12.0, 15.0)
    other_db: float = -20.0
    share: float = 0.95
    confidence: float = 0.95
    device: str = "auto"


def main(args: BenchArgs) -> dict[str, dict[float, tuple[int, int, int]]]:
    """Returns for every condition and every promise: pairs accepted, good of these, good in all."""
    if unknown := {*args.conditions} - CONDITIONS.keys():
        raise UserError(f"BenchArgs.conditions: {', '.join(unknown)}: give some of {', '.join(CONDITIONS)}")
    state, rows = tables.read_json(Path(args.folder, STATE)), tables.read(Path(args.folder, REMIXES))
    if not rows or "checkpoint" not in state:
        raise UserError("holds no remixes; run bootstrap.py first", args.folder)
    net = load(BootstrapArgs(checkpoint=state["checkpoint"], device=args.device))
    if net.sha256 != state["sha256"]:
        raise UserError("is no longer the net that the remixes are of; run bootstrap.py again", state["checkpoint"])
    model = Calibration(rows, other_db=args.other_db, share=args.share, confidence=args.confidence)
    thresholds = {good_db: model.keep(good_db).threshold_db for good_db in args.good_db}
    pairs = [load_pair(pair, net.sample_rate) for pair in find_pairs(Path(args.pairs))]
    found, lines = {}, []
    for name in tqdm(args.conditions, "conditions", leave=False):
        changed = [CONDITIONS[name](target, mixture - target, net.sample_rate) for mixture, target in pairs]
        rows = [
            scores_of(pair.mixture.astype(np.float32), net.extract, net.sample_rate,
                      pair.target.astype(np.float32) * bool(target.any()))
            for pair, (_, target) in zip(changed, pairs, strict=True)
        ]
        predicted = model.predict(rows)
        truths = {key: table_of(rows, [key])[:, 0] for key in PREDICTED}
        ranked, there = model.ranked(predicted), truths["si_sdr_db"] > WORST_DB
        found[name] = {}
        for good_db, threshold_db in thresholds.items():
            accepted, good = ranked >= threshold_db, model.is_good(truths, good_db)
            found[name][good_db] = tuple(int(x.sum()) for x in (accepted, accepted & good, good))
        off = np.median(np.abs(predicted["si_sdr_db"] - truths["si_sdr_db"])[there]) if there.any() else np.nan
        lines.append([name, f"{off:.1f}", *(", ".join(map(str, x)) for x in found[name].values())])
    total = [np.sum([row[good_db] for row in found.values()], axis=0).tolist() for good_db in args.good_db]
    lines.append(["all", "", *(", ".join(map(str, x)) for x in total)])
    print(tables.markdown(["condition", "median error, dB", *(f"{db:g} dB" for db in args.good_db)], lines))
    return found


def load_pair(pair, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a pair's mixture and target. -> [T], [T]"""
    n = pair.mixture.length(sample_rate)
    return tuple(audio.read(recording, 0, n, sample_rate) for recording in (pair.mixture, pair.target))


if __name__ == "__main__":
    main(command_line(BenchArgs()))
