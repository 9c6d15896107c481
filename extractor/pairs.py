"""Fixed pairs of mixture and target, and the estimates of them that lie in files."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from extractor import UserError, audio

SILENT = 1e-3  # the highest peak of a target that is none


class Pair(NamedTuple):
    name: str
    kind: str
    snr_db: float | None
    text: str | None
    mixture: audio.Recording
    target: audio.Recording


def find_pairs(folder: Path) -> list[Pair]:
    """Raises UserError where mixtures and targets do not match in name, length or rate."""
    mixtures, targets = by_name(folder / "mixture"), by_name(folder / "target")
    if not mixtures or mixtures.keys() != targets.keys():
        odd = few(sorted(mixtures.keys() ^ targets.keys())) or "nothing there"
        raise UserError(f"{folder}: mixture/ and target/ must hold files of the same names ({odd})")
    listed = read_list(folder / "list.tsv")
    if listed and (unlisted := [name for name in mixtures if name not in listed]):
        raise UserError(f"{folder / 'list.tsv'}: has no line for {few(unlisted)}; names have no suffix")
    pairs = [
        Pair(name, *listed.get(name, ("all", None, None)), audio.probe(mixtures[name]), audio.probe(targets[name]))
        for name in mixtures
    ]
    rate = pairs[0].mixture.rate
    for _, _, _, _, mixture, target in pairs:
        if mixture.frames != target.frames and mixture.rate == target.rate:
            raise UserError(
                f"{mixture.path}: {mixture.frames} samples, its target {target.frames}; they must be as long"
            )
        if odd := [r for r in (mixture, target) if r.rate != rate]:
            raise UserError(f"{odd[0].path}: {odd[0].rate} Hz, others {rate} Hz; all pairs must be of one rate")
    return pairs


def few(names: list[str]) -> str:
    """The first five, and how many more."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def by_name(folder: Path) -> dict[str, Path]:
    paths = audio.find(folder)
    found = {p.stem: p for p in paths}
    if twice := [p for p in paths if found[p.stem] != p]:
        raise UserError(f"{twice[0]}: {found[twice[0].stem].name} has the same name; a pair is one mixture, one target")
    return found


def read_list(path: Path) -> dict[str, tuple[str, float | None, str | None]]:
    """Name -> kind, SNR in dB, words."""
    if not path.exists():
        return {}
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path}: not in UTF-8; save it as text in UTF-8") from None
    listed, columns = {}, cells(lines[0]) if lines else []
    for n, line in enumerate(lines[1:], 2):
        row = dict(zip(columns, cells(line), strict=False))
        if not line.strip():
            continue
        if not row.get("name"):
            raise UserError(f"{path}: no column `name` in line {n}; separate columns by tabs")
        if row["name"] in listed:
            raise UserError(f"{path}: {row['name']} has a second line, {n}; leave one")
        try:
            snr_db = float(row["snr_db"]) if row.get("snr_db") else None
        except ValueError:
            snr_db = np.nan
        if snr_db is not None and not np.isfinite(snr_db):
            raise UserError(f"{path}: snr_db = {row['snr_db']!r} of {row['name']} is no number")
        listed[row["name"]] = (row.get("kind") or "all", snr_db, row.get("text") or None)
    return listed


def cells(line: str) -> list[str]:
    """Of one line by itself: a quote that does not end must not take the next lines with it."""
    return next(csv.reader([line], delimiter="\t"), [])


def present(target: np.ndarray) -> bool:
    """Whether the speaker is: silence may have gone through dither or a codec."""
    return bool(np.abs(target).max() > SILENT)


def describe(pair: Pair, mixture: np.ndarray, target: np.ndarray) -> dict:
    """An item of the report. An SNR that nobody listed is measured, and rounded to 5 dB to make groups."""
    snr_db = pair.snr_db
    if not present(target):
        snr_db = None
    elif snr_db is None:
        interference = float(np.square(mixture - target).sum())
        snr_db = 5 * round(2 * np.log10(np.square(target).sum() / interference)) if interference else None
    item = {"name": pair.name, "kind": pair.kind, "snr_db": snr_db, "seconds": round(pair.mixture.seconds, 3)}
    return item | {"present": present(target)} | ({"text": pair.text} if pair.text else {})


def find_estimates(folder: Path, pairs: list[Pair]) -> dict[str, Path]:
    """By the names of their pairs. Raises UserError where one is not there."""
    found = by_name(folder)
    if missing := [pair.name for pair in pairs if pair.name not in found]:
        raise UserError(f"{folder}: no estimate of {few(missing)}; files are matched by name")
    return found


def read_estimate(path: Path, pair: Pair) -> np.ndarray:
    """At the pair's rate, as long as the pair. [T]"""
    recording = audio.probe(path)
    rate, length = pair.mixture.rate, pair.mixture.frames
    tolerance = 0 if recording.rate == rate else 2 + rate // recording.rate  # a resampler may round up
    if abs(recording.length(rate) - length) > tolerance:
        raise UserError(f"{path}: {recording.frames} samples at {recording.rate} Hz, its mixture {length} at {rate} Hz")
    return audio.read(recording, 0, length, rate)
