"""Score checkpoints, folders of estimates and ready-made enhancers on fixed pairs of mixture and target.

    python evaluate.py --systems runs/alice/best.pt --pairs evaluation --out-dir results/alice
    python evaluate.py --systems runs/alice/best.pt deepfilternet3 rnnoise noisereduce --clean datasets/clean/alice

`pairs` holds mixture/<name>.<any> and target/<name>.<any>, and, if you like, a list.tsv with the columns `name` and, of
your choice, `kind`, `snr_db` and `text` (the words). A silent target means that the speaker is absent. `out_dir` gets
scores.json, the estimates, and index.html: the page to look at and listen to.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import infer
from extractor import UserError, audio, baselines, checkpoint, curves, metrics, page, perceptual, scoring, tables
from extractor.estimates import CLAIM
from extractor.scoring import MEASURES, Pair
from extractor.script import command_line, run_info

ENROLMENT_S = 60  # of clean speech that stand for the voice


@dataclass(frozen=True)
class EvalArgs:
    systems: tuple[str, ...] = ("runs/speaker/best.pt",)  # checkpoints, folders of estimates, names of BASELINES
    pairs: str = "evaluation"
    out_dir: str = "results/speaker"
    clean: tuple[str, ...] = ()  # folders of the speaker alone: for the likeness of the voice
    perceptual: bool = True      # PESQ, ESTOI, DNSMOS, likeness of the voice, word errors, as far as installed
    page: bool = True            # index.html, with the sound of all systems
    device: str = "auto"         # auto, cpu, cuda, cuda:1

    def __post_init__(self):
        if not self.systems:
            raise UserError("EvalArgs.systems: name a checkpoint, a folder of estimates, or a ready-made enhancer")


def main(args: EvalArgs) -> dict:
    """Returns the content of scores.json."""
    out_dir, pairs = Path(args.out_dir), scoring.find_pairs(Path(args.pairs))
    if (out_dir / CLAIM).exists():
        raise UserError("holds what infer.py extracted, whose page this would replace; choose another out_dir", out_dir)
    sample_rate = pairs[0].mixture.rate
    systems = name_systems(args.systems, out_dir)
    enrolment = read_enrolment(args.clean, sample_rate)
    ears = perceptual.Perceptual(sample_rate, enrolment) if args.perceptual else None
    described = [{"name": page.MIXTURE, "source": args.pairs}, *(
        {"name": name, "source": source} | fingerprint(source) for name, source in systems.items()
    )]
    enhancers = {s: baselines.build(s, sample_rate) for s in systems.values() if s in baselines.BASELINES}
    folders = {s: scoring.find_estimates(Path(s), pairs) for s in systems.values() if is_folder(s)}

    # what can be refused has been by now; from here on it takes time
    estimates = {page.MIXTURE: {pair.name: pair.mixture.path for pair in pairs}} | {
        name: folders.get(source) or estimate(source, out_dir / "estimate" / name, pairs, args, enhancers.get(source))
        for name, source in systems.items()
    }
    items, scores, failures = score_all(pairs, estimates, ears, out_dir if args.page else None)
    if not items:
        raise UserError(f"no pair could be scored ({failures[0]})", args.pairs)

    packages = [*perceptual.PACKAGES.values(), *(b.package for b in baselines.BASELINES.values())]
    ours = next(iter(systems))  # is compared with each of the others
    report = {
        **run_info(args, out_dir, " ".join(packages).split()), "sample_rate": sample_rate,
        "systems": described, "items": items, "scores": scores,
        "summary": {name: scoring.means(items, rows) for name, rows in scores.items()},
        "against": {name: scoring.differences(items, scores[ours], scores[name]) for name in scores if name != ours},
        "failures": failures,
    }
    tables.write_json(out_dir / "scores.json", report)
    if args.page:
        learned = {name: curves.read(Path(source).parent) for name, source in systems.items() if Path(source).is_file()}
        page.write(out_dir, report | {"curves": learned})
    print_report(report)
    if ears and (lacking := not_measured(items, enrolment)):
        print("\nnot measured: " + "; ".join(f"{MEASURES[m].title} ({why})" for m, why in lacking.items()))
    if failures:
        print(f"not scored ({len(failures)}):", *failures, sep="\n  ", file=sys.stderr)
    return report


# --- systems ---------------------------------------------------------------------------------------------------------

def name_systems(sources: tuple[str, ...], out_dir: Path) -> dict[str, str]:
    """Gives each a short name: that of the baseline, of the folder, or of the run that wrote the checkpoint."""
    named: dict[str, str] = {}
    for source in sources:
        path = Path(source)
        if source in baselines.BASELINES:
            name = source
        elif path.is_dir():
            name = path.resolve().name
        elif path.is_file():
            name = checkpoint.name_of(path)
        else:
            known = ", ".join(baselines.BASELINES)
            raise UserError(f"no checkpoint, no folder of estimates, and no enhancer known here ({known})", source)
        if source in named.values():
            raise UserError("named twice among the systems; name it once", source)
        names = (name, *(re.sub(r"[/\\:]", "_", full) for full in (source, str(path.resolve()))))
        named[next(n for n in names if n not in ("", *page.SIGNALS, *named))] = source
    folders = {Path(source).resolve(): source for source in named.values() if is_folder(source)}
    for name, source in named.items():
        if not is_folder(source) and (theirs := folders.get((out_dir / "estimate" / name).resolve())):
            raise UserError(f"{source} would write its own estimates there; choose another out_dir", theirs)
    return named


def is_folder(source: str) -> bool:
    """Says whether the system is a folder of estimates."""
    return source not in baselines.BASELINES and Path(source).is_dir()


def estimate(
    source: str, out_dir: Path, pairs: list[Pair], args: EvalArgs, enhance: baselines.Enhance | None
) -> dict[str, Path]:
    """Makes a system's estimates. Returns name of the pair -> file, which is missing where none could be made."""
    plan = infer.InferArgs(source, str(Path(args.pairs) / "mixture"), str(out_dir), page_s=0, device=args.device)
    paths = {mixture.stem: path for mixture, path in infer.plan(plan).items()}
    for path in paths.values():
        path.unlink(missing_ok=True)  # of an earlier run
    if enhance:
        for pair in tqdm(pairs, desc=source, unit="pair", dynamic_ncols=True):
            try:
                mixture = audio.read(pair.mixture, 0, pair.mixture.frames, pair.mixture.rate)
            except UserError:
                continue  # the scores will name it
            audio.write(paths[pair.name], [enhance(mixture)], len(mixture), pair.mixture.rate)
    else:
        infer.main(plan)
    return paths


def read_enrolment(folders: tuple[str, ...], sample_rate: int) -> np.ndarray | None:
    """Reads the first minute of clean recordings. -> [T], or None without folders"""
    if not folders:
        return None
    pieces, missing = [], ENROLMENT_S * sample_rate
    for path in (path for folder in folders for path in audio.find(folder)):
        recording = audio.probe(path)
        pieces.append(audio.read(recording, 0, min(missing, recording.length(sample_rate)), sample_rate))
        missing -= len(pieces[-1])
        if not missing:
            break
    if not pieces:
        raise UserError(f"{', '.join(folders)}: no recordings there; name folders of the speaker's clean recordings")
    return np.concatenate(pieces)


# --- scores ----------------------------------------------------------------------------------------------------------

def score_all(
    pairs: list[Pair], estimates: dict[str, dict[str, Path]], ears: perceptual.Perceptual | None, pages: Path | None
) -> tuple[list[dict], dict[str, list[dict]], list[str]]:
    """Returns an item for every pair that can be read, for every system a row for each item, empty where there is no
    estimate, and a sentence for all that could not be scored. pages: the folder that gets the sounds"""
    sample_rate = pairs[0].mixture.rate
    items, scores, failures = [], {name: [] for name in estimates}, []
    for pair in tqdm(pairs, desc="scores", unit="pair", dynamic_ncols=True):
        try:
            mixture, target = (audio.read(r, 0, r.frames, sample_rate) for r in (pair.mixture, pair.target))
        except UserError as e:
            failures.append(str(e))  # nothing to compare with
            continue
        items.append(scoring.describe(pair, mixture, target))
        signals = {page.MIXTURE: mixture, page.TARGET: target}
        for name, paths in estimates.items():
            try:
                signals[name] = scoring.read_estimate(paths[pair.name], pair)
            except UserError as e:
                failures.append(f"{name}: {e}")
                scores[name].append({})
                continue
            scores[name].append(score(pair, ears, mixture=mixture, target=target, estimate=signals[name]))
        if pages:
            items[-1]["sound"] = page.add_sound(pages, signals, sample_rate)
    return items, scores, failures


def score(
    pair: Pair, ears: perceptual.Perceptual | None, *, mixture: np.ndarray, target: np.ndarray, estimate: np.ndarray
) -> dict[str, float]:
    """Returns scores by their names in MEASURES; with a silent target those that have a meaning there. [T] each"""
    present = scoring.present(target)
    heard = ears.score(estimate=estimate, target=target, text=pair.text) if ears and present else {}
    mixture, target, estimate = map(torch.from_numpy, (mixture, target, estimate))
    if not present:
        return {"residual_level": metrics.relative_level(estimate=estimate, reference=mixture).item()}
    of = {"si_sdr": metrics.si_sdr, "sdr": metrics.sdr}
    before, after = ({m: f(estimate=x, reference=target).item() for m, f in of.items()} for x in (mixture, estimate))
    gain = after["si_sdr"] - before["si_sdr"]
    shares = metrics.shares(estimate=estimate, mixture=mixture, reference=target, sample_rate=pair.mixture.rate)
    row = after | {
        "si_sdri": gain, "sdri": after["sdr"] - before["sdr"], "gained": 100.0 * (gain > 1),
        "level_error": metrics.level_error(estimate=estimate, reference=target).item(),
        "target_loss": 100 * shares.target_loss.item(), "leakage": shares.leakage.item(),
        "high_lost": 100 * shares.high_lost.item(), "high_kept": shares.high_kept.item(),
    }
    row |= {name: 100 * value if name == "wer" else value for name, value in heard.items()}
    return {name: float(value) for name, value in row.items() if np.isfinite(value)}


def not_measured(items: list[dict], enrolment: np.ndarray | None) -> dict[str, str]:
    """Returns measure -> why it has no number."""
    lacking = {}
    if enrolment is None:
        lacking["speaker"] = "give clean recordings of the speaker, EvalArgs.clean"
    if not any("text" in item for item in items):
        lacking["wer"] = "list.tsv has no words in a column `text`"
    return lacking | {m: f"not installed: {p}; see requirements-eval.txt" for m, p in perceptual.missing().items()}


# --- the report ------------------------------------------------------------------------------------------------------

def print_report(report: dict):
    """Prints two tables in markdown, over all systems: means and 95 % intervals over files."""
    summary = report["summary"]
    kinds, ours = list(summary[page.MIXTURE]), list(summary)[1]
    overall = kinds[-1]
    shown = [(k, "si_sdri") for k in kinds] + [(overall, "gained")] + [(k, "residual_level") for k in kinds]
    elsewhere = "si_sdri", "gained", "residual_level", "dnsmos_sig", "dnsmos_bak"
    rest = [(overall, m) for m in MEASURES if m not in elsewhere]
    for columns in (shown, rest):
        columns = [(k, m) for k, m in columns if any(m in by_kind[k] for by_kind in summary.values())]
        head = [f"{MEASURES[m].title}, {k}" if m == "si_sdri" else MEASURES[m].title for k, m in columns]
        rows = [[name] for name in summary]
        for row, by_kind in zip(rows, summary.values(), strict=True):
            row += [by_kind[k][m].text(MEASURES[m]) if m in by_kind[k] else "-" for k, m in columns]
        if columns:
            print("\n" + tables.markdown(["system", *head], rows))
    for name, by_kind in report["against"].items():
        found = {m: by_kind[overall][m] for m in ("si_sdri", "dnsmos", "speaker", "wer") if m in by_kind[overall]}
        words = (f"{MEASURES[m].title} {gap.text(MEASURES[m])} {verdict}" for m, (gap, verdict) in found.items())
        print(f"\n{ours} against {name}, {overall}: " + "; ".join(words))


def fingerprint(source: str) -> dict:
    """Returns step and SHA-256 of a checkpoint, which tell later which one was scored; {} for other systems."""
    if not Path(source).is_file():
        return {}
    return {"step": checkpoint.load(source).get("step"), "sha256": checkpoint.sha256_of(source)}


args = EvalArgs(
    # edit here what differs from the defaults above, for example:
    # systems=("runs/alice/best.pt", "deepfilternet3"),
    # pairs="runs/unseen/pairs",
    # out_dir="results/alice",
)

if __name__ == "__main__":
    result = main(command_line(args))
    sys.exit(1 if result["failures"] else 0)
