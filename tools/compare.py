"""Is one result better than another, beyond chance? Both are folders that evaluate.py wrote, on the same pairs.

    python -m tools.compare --ours results/alice_2 --theirs results/alice_1

Prints, by kind and measure, the mean difference over the pairs that both have, its 95 % interval (bootstrap over the
pairs' differences) and `better` or `worse` where the interval leaves out zero.
"""

from dataclasses import dataclass
from pathlib import Path

from extractor import UserError, tables
from extractor.scoring import MEASURES, Interval, differences, few
from extractor.script import command_line


@dataclass(frozen=True)
class CompareArgs:
    ours: str = "results/speaker_2"
    theirs: str = "results/speaker_1"
    our_system: str = ""    # of those in the result; "" is the first that is not the mixture
    their_system: str = ""


def main(args: CompareArgs) -> dict[str, dict[str, tuple[Interval, str]]]:
    """Returns kind -> measure -> what ours has over theirs."""
    ours, our_name = read(args.ours, args.our_system)
    theirs, their_name = read(args.theirs, args.their_system)
    both, remedy = f"{args.ours} and {args.theirs}", "score both on the same pairs"
    if not (names := [name for name in ours if name in theirs]):
        raise UserError(f"{both} have no pair in common; {remedy}")
    if other := [name for name in names if not same_pair(ours[name], theirs[name])]:
        raise UserError(f"{both}: other mixtures have the same name ({few(other)}); {remedy}")
    items = [ours[name][0] for name in names]
    found = differences(items, *([result[name][1] for name in names] for result in (ours, theirs)))

    common = f"{len(names)} pairs in common of {len(ours)} and {len(theirs)}"
    print(f"{our_name} of {args.ours} minus {their_name} of {args.theirs}, {common}\n")
    print(tables.markdown(["measure", *found], (
        [MEASURES[m].title, *(cell(by_measure[m], m) if m in by_measure else "-" for by_measure in found.values())]
        for m in MEASURES if any(m in by_measure for by_measure in found.values())
    )))
    return found


def same_pair(ours: tuple[dict, ...], theirs: tuple[dict, ...]) -> bool:
    """Says whether two items are the same pair: equal length, presence of the target and scores of the mixture."""
    (our_item, _, our_mixture), (their_item, _, their_mixture) = ours, theirs
    both = [m for m in ("si_sdr", "sdr") if None not in (our_mixture.get(m), their_mixture.get(m))]
    alike = all(our_item.get(key) == their_item.get(key) for key in ("seconds", "present"))
    return alike and all(abs(our_mixture[m] - their_mixture[m]) < 0.01 for m in both)


def cell(found: tuple[Interval, str], measure: str) -> str:
    interval, verdict = found
    return interval.text(MEASURES[measure]) + (f" {verdict}" if verdict != "within" else "")


def read(folder: str, system: str) -> tuple[dict[str, tuple[dict, dict, dict]], str]:
    """Returns name of the pair -> its item, the system's row and the mixture's; and the system's name."""
    path = Path(folder) if folder.endswith(".json") else Path(folder) / "scores.json"
    report = tables.read_json(path)
    if not report.get("summary"):  # infer.py's has none
        raise UserError("no result; evaluate.py writes it", path)
    mixture, first, *_ = names = list(report["scores"])
    system = system or first
    if system not in names:
        raise UserError(f"no system {system!r} in it, but {', '.join(names)}", path)
    rows = zip(report["items"], report["scores"][system], report["scores"][mixture], strict=True)
    return {item["name"]: (item, *of_it) for item, *of_it in rows}, system


if __name__ == "__main__":
    main(command_line(CompareArgs()))
