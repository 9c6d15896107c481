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
from extractor import UserError, audio, baselines, checkpoint, curves, metrics, page, perceptual, script, tables
from extractor.scoring import (
    MEASURES,
    Pair,
    describe,
    differences,
    find_estimates,
    find_pairs,
    means,
    present,
    read_estimate,
)
from extractor.script import command_line

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
    out_dir = Path(args.out_dir)
    pairs = find_pairs(Path(args.pairs))
    sample_rate = pairs[0].mixture.rate
    systems = name_systems(args.systems, out_dir)
    enrolment = read_enrolment(args.clean, sample_rate)
    ears = perceptual.Perceptual(sample_rate, enrolment) if args.perceptual else None
    described = [{"name": page.MIXTURE, "source": args.pairs}, *(
        {"name": name, "source": source} | fingerprint(source) for name, source in systems.items()
    )]
    enhancers = {s: baselines.build(s, sample_rate) for s in systems.values() if s in baselines.BASELINES}
    folders = {s: find_estimates(Path(s), pairs) for s in systems.values() if is_folder(s)}

    # what can be refused has been by now; from here on it takes time
    estimates = {page.MIXTURE: {pair.name: pair.mixture.path for pair in pairs}} | {
        name: folders.get(source) or estimate(source, out_dir / "estimate" / name, pairs, args, enhancers.get(source))
        for name, source in systems.items()
    }
    items, scores, failures = score_all(pairs, estimates, ears, out_dir if args.page else None)
    if not items:
        raise UserError(f"{args.pairs}: no pair could be scored ({failures[0]})")

    report = {
        **script.run_info(args, out_dir, packages()), "sample_rate": sample_rate, "systems": described,
        "items": items, "scores": scores, **summarise(items, scores), "failures": failures,
    }
    tables.write_json(out_dir / "scores.json", report)
    if args.page:
        page.write(out_dir, report | {"curves": {name: learned(source) for name, source in systems.items()}})
    print_report(report)
    if ears and (lacking := not_measured(items, enrolment)):
        print("\nnot measured: " + "; ".join(f"{MEASURES[m].title} ({why})" for m, why in lacking.items()))
    if failures:
        print(f"not scored ({len(failures)}):", *failures, sep="\n  ", file=sys.stderr)
    return report


# ---------------------------------------------------------------------------------------------------------------------
# systems


def name_systems(sources: tuple[str, ...], out_dir: Path) -> dict[str, str]:
    """A short name for each: that of the baseline, of the folder, or of the run that wrote the checkpoint."""
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
            raise UserError(f"{source}: no checkpoint, no folder of estimates, and no enhancer known here ({known})")
        if source in named.values():
            raise UserError(f"{source}: named twice among the systems; name it once")
        names = (name, *(re.sub(r"[/\\:]", "_", full) for full in (source, str(path.resolve()))))
        named[next(n for n in names if n not in ("", *page.SIGNALS, *named))] = source
    folders = {Path(source).resolve(): source for source in named.values() if is_folder(source)}
    for name, source in named.items():
        if not is_folder(source) and (theirs := folders.get((out_dir / "estimate" / name).resolve())):
            raise UserError(f"{theirs}: {source} would write its own estimates there; choose another out_dir")
    return named


def is_folder(source: str) -> bool:
    """Whether the system is a folder of estimates."""
    return source not in baselines.BASELINES and Path(source).is_dir()


def estimate(
    source: str, out_dir: Path, pairs: list[Pair], args: EvalArgs, enhance: baselines.Enhance | None
) -> dict[str, Path]:
    """Makes a system's estimates: files by the names of their pairs. Where one could not be made there is none."""
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
    """The first minute of clean recordings. [T]"""
    if not folders:
        return None
    pieces, missing = [], ENROLMENT_S * sample_rate
    for folder in folders:
        for path in audio.find(folder):
            if not missing:
                break
            recording = audio.probe(path)
            n = min(missing, recording.length(sample_rate))
            pieces.append(audio.read(recording, 0, n, sample_rate))
            missing -= n
    if not pieces:
        raise UserError(f"{', '.join(folders)}: no recordings there; name folders of the speaker's clean recordings")
    return np.concatenate(pieces)


# ---------------------------------------------------------------------------------------------------------------------
# scores


def score_all(
    pairs: list[Pair], estimates: dict[str, dict[str, Path]], ears: perceptual.Perceptual | None, pages: Path | None
) -> tuple[list[dict], dict[str, list[dict]], list[str]]:
    """Of every pair that can be read an item, of every system a row for each of these, empty where there is no
    estimate, and a sentence for all that could not be scored. pages: the folder that gets the sounds"""
    sample_rate = pairs[0].mixture.rate
    items, scores, failures = [], {name: [] for name in estimates}, []
    for pair in tqdm(pairs, desc="scores", unit="pair", dynamic_ncols=True):
        try:
            mixture, target = (audio.read(r, 0, r.frames, sample_rate) for r in (pair.mixture, pair.target))
        except UserError as e:
            failures.append(str(e))  # nothing to compare with
            continue
        items.append(describe(pair, mixture, target))
        signals = {page.MIXTURE: mixture, page.TARGET: target}
        for name, paths in estimates.items():
            try:
                signals[name] = read_estimate(paths[pair.name], pair)
                row = score(mixture=mixture, target=target, estimate=signals[name], sample_rate=sample_rate)
                if ears and present(target):
                    row |= perceptual_scores(ears, signals[name], target, pair.text)
            except UserError as e:
                failures.append(f"{name}: {e}")
                row = {}
            scores[name].append(row)
        if pages:
            items[-1]["sound"] = page.add_sound(pages, signals, sample_rate)
    return items, scores, failures


def score(*, mixture: np.ndarray, target: np.ndarray, estimate: np.ndarray, sample_rate: int) -> dict[str, float]:
    """What needs no other package, by its name in MEASURES; of a silent target what has a meaning there. [T] each"""
    absent = not present(target)
    mixture, target, estimate = map(torch.from_numpy, (mixture, target, estimate))
    if absent:
        return {"residual_level": metrics.relative_level(estimate=estimate, reference=mixture).item()}
    before, after = (
        {"si_sdr": metrics.si_sdr(estimate=x, reference=target).item(),
         "sdr": metrics.sdr(estimate=x, reference=target).item()} for x in (mixture, estimate)
    )
    gain = after["si_sdr"] - before["si_sdr"]
    shares = metrics.shares(estimate=estimate, mixture=mixture, reference=target, sample_rate=sample_rate)
    row = after | {
        "si_sdri": gain, "sdri": after["sdr"] - before["sdr"], "gained": 100.0 * (gain > 1),
        "level_error": metrics.level_error(estimate=estimate, reference=target).item(),
        "target_loss": 100 * shares.target_loss.item(), "leakage": shares.leakage.item(),
        "high_lost": 100 * shares.high_lost.item(), "high_kept": shares.high_kept.item(),
    }
    return {name: value for name, value in row.items() if np.isfinite(value)}


def perceptual_scores(
    ears: perceptual.Perceptual, estimate: np.ndarray, target: np.ndarray, text: str | None
) -> dict[str, float]:
    heard = ears.score(estimate=estimate, target=target, text=text)
    if "wer" in heard:
        heard["wer"] *= 100
    return {name: float(value) for name, value in heard.items() if np.isfinite(value)}


def not_measured(items: list[dict], enrolment: np.ndarray | None) -> dict[str, str]:
    """Measure -> what it lacks."""
    lacking = {}
    if enrolment is None:
        lacking["speaker"] = "give clean recordings of the speaker, EvalArgs.clean"
    if not any("text" in item for item in items):
        lacking["wer"] = "list.tsv has no words in a column `text`"
    return lacking | {m: f"not installed: {p}; see requirements-eval.txt" for m, p in perceptual.missing().items()}


def summarise(items: list[dict], scores: dict[str, list[dict]]) -> dict:
    """Means by kind with their intervals, and what the first system after the mixture has over each of the others."""
    ours = list(scores)[1]
    return {
        "summary": {name: means(items, rows) for name, rows in scores.items()},
        "against": {name: differences(items, scores[ours], rows) for name, rows in scores.items() if name != ours},
    }


# ---------------------------------------------------------------------------------------------------------------------
# the report


def print_report(report: dict):
    """Two tables in markdown, over all systems: means and 95 % intervals over files."""
    summary, against = report["summary"], report["against"]
    kinds = list(summary[page.MIXTURE])
    overall = kinds[-1]
    columns = [(kind, "si_sdri") for kind in kinds] + [(overall, "gained")]
    columns += [(kind, "residual_level") for kind in kinds]
    elsewhere = "si_sdri", "gained", "residual_level", "dnsmos_sig", "dnsmos_bak"
    rest = [(overall, m) for m in MEASURES if m not in elsewhere]
    for table in (columns, rest):
        table = [(kind, m) for kind, m in table if any(m in by_kind[kind] for by_kind in summary.values())]
        if not table:
            continue
        head = [f"{MEASURES[m].title}, {kind}" if m == "si_sdri" else MEASURES[m].title for kind, m in table]
        rows = [
            [name, *(s[kind][m].text(MEASURES[m]) if m in s[kind] else "-" for kind, m in table)]
            for name, s in summary.items()
        ]
        print("\n" + tables.markdown(["system", *head], rows))
    ours = list(summary)[1]
    for name, by_kind in against.items():
        words = [
            f"{MEASURES[m].title} {found.text(MEASURES[m])} {verdict}"
            for m, (found, verdict) in by_kind[overall].items() if m in ("si_sdri", "dnsmos", "speaker", "wer")
        ]
        print(f"\n{ours} against {name}, {overall}: " + "; ".join(words))


def packages() -> list[str]:
    """Names of the packages that the scores depend on."""
    return " ".join([*perceptual.PACKAGES.values(), *(b.package for b in baselines.BASELINES.values())]).split()


def fingerprint(source: str) -> dict:
    """The SHA-256 of a checkpoint, so that it is known later which one was scored; {} for other systems."""
    if not Path(source).is_file():
        return {}
    return {"step": checkpoint.load(source).get("step"), "sha256": checkpoint.sha256_of(source)}


def learned(source: str) -> dict:
    """The curves of the run that wrote a checkpoint."""
    return curves.read(Path(source).parent) if Path(source).is_file() else {}


args = EvalArgs(
    # edit here what differs from the defaults above, for example:
    # systems=("runs/alice/best.pt", "deepfilternet3"),
    # pairs="runs/unseen/pairs",
    # out_dir="results/alice",
)

if __name__ == "__main__":
    result = main(command_line(args))
    sys.exit(1 if result["failures"] else 0)
