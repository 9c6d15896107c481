"""Score a checkpoint on fixed pairs of mixture and target.

    python evaluate.py --checkpoint runs/alice/best.pt --pairs evaluation --out-dir results/alice

`pairs` holds mixture/<name>.<any> and target/<name>.<any>, and, if you like, a list.tsv whose columns `name` and `kind`
sort the pairs. A pair whose target is silent is judged by what is left of the mixture. Estimates and a row for every
pair go to `out_dir`; the means by kind to the screen.
"""

import csv
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import infer
import models
from extractor import UserError, audio, tables
from extractor.command import command_line
from extractor.metrics import attenuation, si_sdr


@dataclass(frozen=True)
class EvalArgs:
    checkpoint: str = "runs/speaker/best.pt"
    pairs: str = "evaluation"
    out_dir: str = "results/speaker"
    device: str = "auto"


def main(args: EvalArgs) -> list[dict]:
    """Returns the rows of scores.tsv."""
    pairs, out_dir = Path(args.pairs), Path(args.out_dir)
    targets, mixtures = by_name(pairs / "target"), by_name(pairs / "mixture")
    if not mixtures or mixtures.keys() != targets.keys():
        odd = ", ".join(sorted(mixtures.keys() ^ targets.keys())[:5]) or "nothing there"
        raise UserError(f"{pairs}: mixture/ and target/ must hold files of the same names ({odd})")
    failures = infer.main(infer.InferArgs(
        args.checkpoint, str(pairs / "mixture"), str(out_dir / "estimate"), overwrite=True, device=args.device,
    ))
    if failures:
        raise UserError(f"{pairs}: {len(failures)} pairs could not be extracted; mend or remove them")
    sample_rate = models.load(args.checkpoint)[0].args.sample_rate
    kinds = kinds_of(pairs / "list.tsv")
    rows = []
    for name in mixtures:
        mixture, target, estimate = (
            load(p, sample_rate) for p in (mixtures[name], targets[name], out_dir / "estimate" / f"{name}.wav")
        )
        if len(mixture) != len(target):
            raise UserError(f"{mixtures[name]}: {len(mixture)} samples, its target {len(target)}; they must be as long")
        scores = score(mixture=mixture, target=target, estimate=estimate)
        rows.append({"name": name, "kind": kinds.get(name, "all"), **scores})
    tables.write(out_dir / "scores.tsv", rows[0], (
        {k: f"{v:.2f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
    ))
    print("\n" + table(rows))
    return rows


def by_name(folder: Path) -> dict[str, Path]:
    paths = audio.find(folder)
    found = {p.stem: p for p in paths}
    if twice := [p for p in paths if found[p.stem] != p]:
        raise UserError(f"{twice[0]}: {found[twice[0].stem].name} has the same name; a pair is one mixture, one target")
    return found


def load(path: Path, sample_rate: int) -> torch.Tensor:
    recording = audio.probe(path)
    return torch.from_numpy(audio.read(recording, 0, recording.length(sample_rate), sample_rate))


def kinds_of(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    with open(path, newline="") as f:
        return {row["name"]: row["kind"] for row in csv.DictReader(f, delimiter="\t")}


def score(*, mixture: torch.Tensor, target: torch.Tensor, estimate: torch.Tensor) -> dict[str, float]:
    """In dB. NaN where a number has no meaning: SI-SDR of a silent target, attenuation of a present one."""
    before, after = (si_sdr(estimate=x, reference=target).item() for x in (mixture, estimate))
    if not target.any():
        left = attenuation(estimate=estimate, mixture=mixture).item()
        return {"mixture_si_sdr": np.nan, "si_sdr": np.nan, "si_sdri": np.nan, "attenuation": left}
    return {"mixture_si_sdr": before, "si_sdr": after, "si_sdri": after - before, "attenuation": np.nan}


def table(rows: list[dict]) -> str:
    """Markdown: mean ± deviation by kind, in dB. The share that gained over 1 dB shows what means hide."""
    kinds = defaultdict(list)
    for row in rows:
        kinds[row["kind"]].append(row)
    present = [row for row in rows if not np.isnan(row["si_sdri"])]
    if len(kinds) > 1 and present:
        kinds["all with the target"] = present
    head = "kind", "pairs", "SI-SDR in", "SI-SDR out", "SI-SDRi", "gained > 1 dB", "left of absent"
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for kind, group in kinds.items():
        def mean(key, group=group):
            values = [row[key] for row in group if not np.isnan(row[key])]
            return f"{np.mean(values):+.1f} ± {np.std(values):.1f}" if values else "-"

        gains = [row["si_sdri"] > 1 for row in group if not np.isnan(row["si_sdri"])]
        share = f"{np.mean(gains):.0%}" if gains else "-"
        cells = [kind, str(len(group)), *map(mean, ("mixture_si_sdr", "si_sdr", "si_sdri")), share, mean("attenuation")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(not main(command_line(EvalArgs(
        checkpoint="runs/speaker/best.pt",
        pairs="evaluation",
        out_dir="results/speaker",
    ))))
