"""Pairs of mixture and target, what is measured of them, and what can be said of the means."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, stdtrit

from extractor import UserError, audio

# --- pairs -----------------------------------------------------------------------------------------------------------

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
        raise UserError(f"mixture/ and target/ must hold files of the same names ({odd})", folder)
    listed = read_list(folder / "list.tsv")
    if listed and (unlisted := [name for name in mixtures if name not in listed]):
        raise UserError(f"has no line for {few(unlisted)}; names have no suffix", folder / "list.tsv")
    pairs = [
        Pair(name, *listed.get(name, ("all", None, None)), audio.probe(mixtures[name]), audio.probe(targets[name]))
        for name in mixtures
    ]
    rate = pairs[0].mixture.rate
    for recording in (recording for pair in pairs for recording in (pair.mixture, pair.target)):
        if recording.rate != rate:
            raise UserError(f"{recording.rate} Hz, others {rate} Hz; all pairs must be of one rate", recording.path)
    for pair in pairs:
        if (n := pair.mixture.frames) != (other := pair.target.frames):
            raise UserError(f"{n} samples, its target {other}; they must be as long", pair.mixture.path)
    return pairs


def few(names: list[str]) -> str:
    """The first five, and how many more."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def by_name(folder: Path) -> dict[str, Path]:
    paths = audio.find(folder)
    found = {p.stem: p for p in paths}
    if twice := [p for p in paths if found[p.stem] != p]:
        raise UserError(f"{found[twice[0].stem].name} has the same name; a pair is one mixture, one target", twice[0])
    return found


def read_list(path: Path) -> dict[str, tuple[str, float | None, str | None]]:
    """Name -> kind, SNR in dB, words."""
    if not path.exists():
        return {}
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError("not in UTF-8; save it as text in UTF-8", path) from None
    # line by line: a quote that does not end must not take the next lines with it
    columns, *rows = [next(csv.reader([line], delimiter="\t"), []) for line in lines] or [[]]
    listed = {}
    for n, cells in enumerate(rows, 2):
        if not any(map(str.strip, cells)):
            continue
        row = dict(zip(columns, cells, strict=False))
        if not row.get("name"):
            raise UserError(f"no column `name` in line {n}; separate columns by tabs", path)
        if row["name"] in listed:
            raise UserError(f"{row['name']} has a second line, {n}; leave one", path)
        try:
            snr_db = float(row["snr_db"]) if row.get("snr_db") else None
        except ValueError:
            snr_db = np.nan
        if snr_db is not None and not np.isfinite(snr_db):
            raise UserError(f"snr_db = {row['snr_db']!r} of {row['name']} is no number", path)
        listed[row["name"]] = (row.get("kind") or "all", snr_db, row.get("text") or None)
    return listed


def present(target: np.ndarray) -> bool:
    """Whether the speaker is in a target. A silent target may have gone through dither or a codec. [T]"""
    return bool(np.abs(target).max() > SILENT)


def describe(pair: Pair, mixture: np.ndarray, target: np.ndarray) -> dict:
    """An item of the report. An SNR that nobody listed is measured, and rounded to 5 dB to make groups."""
    snr_db = pair.snr_db if present(target) else None
    if present(target) and snr_db is None and (interference := float(np.square(mixture - target).sum())):
        snr_db = 5 * round(2 * np.log10(np.square(target).sum() / interference))
    item = {"name": pair.name, "kind": pair.kind, "snr_db": snr_db, "seconds": round(pair.mixture.seconds, 3)}
    return item | {"present": present(target)} | ({"text": pair.text} if pair.text else {})


def find_estimates(folder: Path, pairs: list[Pair]) -> dict[str, Path]:
    """Pair name -> file of its estimate. Raises UserError where one is missing."""
    found = by_name(folder)
    if missing := [pair.name for pair in pairs if pair.name not in found]:
        raise UserError(f"no estimate of {few(missing)}; files are matched by name", folder)
    return found


def read_estimate(path: Path, pair: Pair) -> np.ndarray:
    """Read an estimate at the pair's sample rate and length. -> [T]"""
    recording = audio.probe(path)
    rate, length = pair.mixture.rate, pair.mixture.frames
    tolerance = 0 if recording.rate == rate else 2 + rate // recording.rate  # a resampler may round up
    if abs(recording.length(rate) - length) > tolerance:
        raise UserError(f"{recording.frames} samples at {recording.rate} Hz, its mixture {length} at {rate} Hz", path)
    return audio.read(recording, 0, length, rate)


# --- measures and their means ----------------------------------------------------------------------------------------

N_RESAMPLES = 10_000
FEWEST = 6  # pairs for a verdict: that all of five go one way is chance in one case of 16
MOST_SNRS, SNR_STEP_DB = 10, 5
PRESENT = "all with the target"


class Measure(NamedTuple):
    title: str
    unit: str
    better: int      # 1: more is better; -1: less; 0: near zero
    digits: int
    meaning: str


MEASURES = {
    "si_sdr": Measure("SI-SDR", "dB", 1, 1, "scale-invariant signal-to-distortion ratio"),
    "si_sdri": Measure("SI-SDRi", "dB", 1, 1, "SI-SDR gained over the mixture"),
    "sdr": Measure("SDR", "dB", 1, 1, "signal-to-distortion ratio that forgives any filter of 512 taps (BSS Eval)"),
    "sdri": Measure("SDRi", "dB", 1, 1, "SDR gained over the mixture"),
    "gained": Measure("gained", "%", 1, 0, "share of pairs whose SI-SDR gained more than 1 dB"),
    "level_error": Measure("level error", "dB", 0, 1, "how much louder the speaker is than before"),
    "target_loss": Measure("speech lost", "%", -1, 1, "share of the speaker's energy that is lost"),
    "leakage": Measure("leakage", "dB", -1, 1, "of the interference's energy, what came through"),
    "high_lost": Measure("lost > 8 kHz", "%", -1, 1, "share of the speaker's energy above 8 kHz that is lost"),
    "high_kept": Measure("kept > 8 kHz", "dB", 0, 1, "of the speaker's energy above 8 kHz, what came through"),
    "level_in": Measure("level before", "dBFS", 0, 1, "level of the recording"),
    "level_change": Measure("level change", "dB", 0, 1, "level of what was extracted over that of the recording"),
    "speech_s": Measure("speech", "s", 1, 1, "seconds of what was extracted that stand out from its background"),
    "residual_level": Measure("left of absent", "dB", -1, 1, "level of what remains where the speaker is absent"),
    "predicted_si_sdr": Measure("predicted SI-SDR", "dB", 1, 1, "SI-SDR guessed without a target, by bootstrap.py"),
    "predicted_other": Measure("predicted other", "dB", -1, 0, "guessed level of somebody else, over the speaker's"),
    "pesq": Measure("PESQ", "MOS", 1, 2, "PESQ wide band at 16 kHz, 1 to 4.64"),
    "estoi": Measure("ESTOI", "", 1, 2, "extended short-time objective intelligibility, 0 to 1"),
    "dnsmos": Measure("DNSMOS", "MOS", 1, 2, "quality guessed without a reference, overall; deaf to a second voice"),
    "dnsmos_sig": Measure("DNSMOS sig", "MOS", 1, 2, "the same, of the speech"),
    "dnsmos_bak": Measure("DNSMOS bak", "MOS", 1, 2, "the same, of the background"),
    "speaker": Measure("speaker", "", 1, 2, "cosine similarity of the voice to the clean recordings (Resemblyzer)"),
    "wer": Measure("WER", "%", -1, 0, "word error rate of Whisper tiny.en, pooled over words"),
}


class Interval(NamedTuple):
    mean: float
    low: float
    high: float
    n: int

    def text(self, measure: Measure) -> str:
        """`+7.5 [+6.2, +8.7]`, without the interval where one file gives none, `-` of nothing."""
        if not self.n:
            return "-"
        sign = "+" if measure.unit == "dB" else ""
        mean, low, high = (f"{round(x, measure.digits) + 0.0:{sign}.{measure.digits}f}" for x in self[:3])
        unit = "%" if measure.unit == "%" else ""
        return f"{mean}{unit}" if np.isnan(self.low) else f"{mean}{unit} [{low}, {high}]"


def interval(values: Sequence[float], weights: Sequence[float] | None = None) -> Interval:
    """Mean over files and its 95 % interval: the bootstrap over files, drawn with replacement, its percentiles expanded
    as Hesterberg (2015) does for few files, for which plain percentiles are too narrow.

    NaN is no value, nor is one without weight. With weights, such as words, it is the weighted mean. Of fewer than two
    values the interval is NaN.
    """
    values = np.asarray(values, float)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, float)
    known = ~np.isnan(values) & (weights > 0)
    values, weights, n = values[known], weights[known], int(known.sum())
    mean = float(np.average(values, weights=weights)) if n else np.nan
    if n < 2:
        return Interval(mean, np.nan, np.nan, n)
    drawn = _drawn(n)
    tail = ndtr(np.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.025))  # Gauss's of Student's quantile
    low, high = np.quantile(drawn @ (weights * values) / (drawn @ weights), [tail, 1 - tail])
    return Interval(mean, float(low), float(high), n)


@lru_cache(maxsize=2)  # of 1500 files it has 120 MB
def _drawn(n: int) -> np.ndarray:
    """Bootstrap counts: how often each of n files is drawn, in every resample. -> [resamples, n]"""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), N_RESAMPLES).astype(float)


def groups_of(items: Sequence[dict]) -> dict[str, list[int]]:
    """Kind -> numbers of its items. Items with the target also form groups by SNR, `at -5 dB`, rounded to 5 dB where
    there are many, and where there are several groups, one of all."""
    kinds, at_snr, present = defaultdict(list), defaultdict(list), []
    many = len({item["snr_db"] for item in items if item["present"]}) > MOST_SNRS
    for i, item in enumerate(items):
        kinds[item["kind"]].append(i)
        if item["present"]:
            present.append(i)
            if (snr_db := item["snr_db"]) is not None:
                at_snr[SNR_STEP_DB * round(snr_db / SNR_STEP_DB) if many else snr_db].append(i)
    snrs = {f"at {snr_db:g} dB": at_snr[snr_db] for snr_db in sorted(at_snr)}
    groups = {**kinds, **(snrs if len(snrs) > 1 else {})}
    return groups | {PRESENT: present} if len(groups) > 1 and present else groups


def means(items: Sequence[dict], rows: Sequence[dict]) -> dict[str, dict[str, Interval]]:
    """Kind -> measure -> mean, of what was measured. rows: measure -> value, one for each item"""
    return {kind: {
        measure: interval(*_values([rows[i] for i in group], measure))
        for measure in MEASURES if any(measure in rows[i] for i in group)
    } for kind, group in groups_of(items).items()}


def differences(
    items: Sequence[dict], ours: Sequence[dict], theirs: Sequence[dict]
) -> dict[str, dict[str, tuple[Interval, str]]]:
    """Kind -> measure -> ours minus theirs over the items that both have, and what it says: better, worse, or "within":
    too close to tell. Of a measure that should be zero, the distances from zero are compared."""
    groups = groups_of(items)
    found: dict[str, dict] = {kind: {} for kind in groups}
    for kind, group in groups.items():
        for measure, (_, _, better, *_) in MEASURES.items():
            (a, weights), (b, _) = (_values([rows[i] for i in group], measure) for rows in (ours, theirs))
            if better == 0:
                a, b, better = np.abs(a), np.abs(b), -1
            gap = interval(a - b, weights)
            if gap.n:
                beyond = gap.n >= FEWEST and (gap.low > 0 or gap.high < 0)
                verdict = ("better" if gap.mean * better > 0 else "worse") if beyond else "within"
                found[kind][measure] = gap, verdict
    return found


def _values(rows: Sequence[dict], measure: str) -> tuple[np.ndarray, np.ndarray]:
    """The values of a measure and their weights: word error rates weigh by words, everything else by files."""
    weights = [row.get("words", 0) if measure == "wer" else 1 for row in rows]
    return np.array([row.get(measure, np.nan) for row in rows], float), np.array(weights, float)
