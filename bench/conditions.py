"""How a net bears what captures are like: the same pairs under other bandwidths, codecs, microphones, rooms, levels.

    python -m bench.conditions --checkpoints runs/alice/best.pt --pairs runs/unseen/pairs --out-dir results/conditions

Every condition is done to the pair, and the estimate is compared with the target as it is under that condition
(docs/data.md: a net takes away, it does not repair). Prints a table for each checkpoint, a row a condition: SI-SDRi by
kind, the level of the estimate over the target's, the share of the speech that is lost, and what is left where the
target is absent. Writes them to <out_dir>/conditions.json and draws <out_dir>/conditions.png.

The filters here are others than those of training's augmentation (augment.py), so that no net can have learnt
them by heart.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile as sf
import soxr
import torch
from matplotlib.figure import Figure
from scipy.ndimage import minimum_filter1d, uniform_filter1d
from scipy.signal import fftconvolve, firwin2, lfilter
from tqdm import tqdm

import models
from extractor import UserError, audio, checkpoint, metrics, report, script, tables
from extractor.coding import Coding, coded
from extractor.device import pick_device
from extractor.scoring import find_pairs, present
from extractor.script import command_line

AS_RECORDED = "as recorded"
KINDS = "game", "voice", "both"
DELETED_DB = -15  # of the target's level: the speaker is gone

Signal = np.ndarray
Change = Callable[[Signal, int], Signal]  # [T], sample rate -> [T]


@dataclass(frozen=True)
class BenchArgs:
    checkpoints: tuple[str, ...] = ("runs/speaker/best.pt",)
    pairs: str = "runs/unseen/pairs"   # as for evaluate.py
    only: tuple[str, ...] = ()         # conditions whose names contain one of these, and `as recorded`; (): all
    out_dir: str = "results/conditions"
    device: str = "auto"


# ---------------------------------------------------------------------------------------------------------------------
# what is done to one signal: [T] -> [T]


def low_pass(cutoff_hz: float) -> Change:
    """By a resampler, down and up again, as a file has it that was stored at a lower rate."""
    def change(x: Signal, rate: int) -> Signal:
        return fit(soxr.resample(soxr.resample(x, rate, 2 * cutoff_hz), 2 * cutoff_hz, rate), len(x))
    return change


def codec(encoder: str, kbit_s: float) -> Change:
    """Encoded and decoded by FFmpeg, and moved back by the codec's delay."""
    return lambda x, rate: coded(x, rate, Coding(encoder, kbit_s))


def vorbis(quality: float) -> Change:
    """Ogg Vorbis by libsndfile; quality is 0 to 1, as oggenc's -q over 10."""
    def change(x: Signal, rate: int) -> Signal:
        memory = io.BytesIO()
        with sf.SoundFile(memory, "w", rate, 1, "VORBIS", format="OGG", compression_level=1 - quality) as f:
            for at in range(0, len(x), 1 << 16):  # libsndfile's encoders fail on long writes
                f.write(x[at : at + (1 << 16)])
        memory.seek(0)
        return fit(sf.read(memory, dtype="float32")[0], len(x))
    return change


def tilt(db_per_octave: float) -> Change:
    """About 1 kHz."""
    def change(x: Signal, rate: int) -> Signal:
        n = 2 * len(x)
        hz = np.maximum(np.fft.rfftfreq(n, 1 / rate), 30.0)
        gain = 10 ** (db_per_octave * np.log2(hz / 1000) / 20)
        return np.fft.irfft(np.fft.rfft(x, n) * gain, n)[: len(x)].astype(np.float32)
    return change


def microphone(gains_db: dict[int, float]) -> Change:
    """Gains in dB at frequencies in Hz, in between by straight lines; the first and the last hold to the ends."""
    def change(x: Signal, rate: int) -> Signal:
        points = [(hz, 10 ** (db / 20)) for hz, db in gains_db.items() if hz < rate / 2]
        hz, gain = zip((0.0, points[0][1]), *points, (rate / 2, points[-1][1]), strict=True)
        return fftconvolve(x, firwin2(4097, hz, gain, fs=rate), mode="same").astype(np.float32)
    return change


def room(rt60_s: float, direct_db: float, until_s: float = math.inf, seed: int = 7) -> Change:
    """Six early reflections and a tail whose treble dies twice as fast as its bass; together they lie direct_db under
    the direct sound. What comes after until_s is left out, and the rest is as it would be with it."""
    def change(x: Signal, rate: int) -> Signal:
        rng = np.random.default_rng(seed)
        t = np.arange(round(rt60_s * rate)) / rate
        dull = lfilter([0.15], [1, -0.85], rng.standard_normal(len(t))) * 3
        tail = (dull * 10 ** (-3 * t / rt60_s) + rng.standard_normal(len(t)) * 10 ** (-6 * t / rt60_s)) * (t > 0.012)
        early = rng.choice(np.flatnonzero((t > 0.002) & (t < 0.012)), 6, replace=False)
        tail[early] += 3 * rng.choice([-1, 1], 6) * 10 ** (-t[early] * 40)
        echo = fftconvolve(x, tail)[: len(x)]
        energy = echo @ echo
        gain = np.sqrt(10 ** (-direct_db / 10) * np.square(x, dtype=np.float64).sum() / energy) if energy else 0.0
        echo = fftconvolve(x, tail * (t < until_s))[: len(x)]
        return (x + gain * echo).astype(np.float32)
    return change


def faster(factor: float) -> Change:
    """Pitch and all."""
    def change(x: Signal, rate: int) -> Signal:
        return fit(soxr.resample(x, rate, rate / factor), len(x))
    return change


def softer(db: float) -> Change:
    return lambda x, rate: x * np.float32(10 ** (-db / 20))


def envelope(x: Signal, rate: int, seconds: float) -> Signal:
    """Root mean square around every sample."""
    return np.sqrt(np.maximum(uniform_filter1d(np.square(x, dtype=np.float64), round(seconds * rate)), 1e-12))


def compressor(x: Signal, rate: int) -> Signal:
    """Its gain: 3:1 above -30 dBFS, over 20 ms."""
    over_db = np.maximum(0, 20 * np.log10(envelope(x, rate, 0.02)) + 30)
    return (10 ** (-over_db * (1 - 1 / 3) / 20)).astype(np.float32)


def gate(x: Signal, rate: int) -> Signal:
    """Its gain: shut, over 10 ms, where the level within 50 ms is 35 dB under the highest."""
    level = envelope(x, rate, 0.05)
    return uniform_filter1d((level > level.max() * 10 ** (-35 / 20)).astype(np.float32), round(0.01 * rate))


def limiter(x: Signal, rate: int) -> Signal:
    """Its gain: peaks are held 10 dB under the highest."""
    limit = np.abs(x).max() * 10 ** (-10 / 20)
    needed = np.minimum(1, limit / np.maximum(np.abs(x), 1e-9))
    width = round(0.005 * rate)
    return uniform_filter1d(minimum_filter1d(needed, 2 * width), width).astype(np.float32)


def fit(x: Signal, n: int) -> Signal:
    return np.pad(x[:n], (0, max(0, n - len(x)))).astype(np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# what is done to a pair


class Pair(NamedTuple):
    mixture: Signal
    target: Signal


Condition = Callable[[Signal, Signal, int], Pair]  # target [T], interference [T], sample rate -> the pair under it


def on_sum(change: Change) -> Condition:
    """The target goes through the same by itself."""
    return lambda target, interference, rate: Pair(change(target + interference, rate), change(target, rate))


def on_target(change: Change) -> Condition:
    def condition(target: Signal, interference: Signal, rate: int) -> Pair:
        changed = change(target, rate)
        return Pair(changed + interference, changed)
    return condition


def on_interference(change: Change) -> Condition:
    return lambda target, interference, rate: Pair(target + change(interference, rate), target)


def gain_of_sum(gain: Change) -> Condition:
    """A gain that changes with time, and follows from the sum."""
    def condition(target: Signal, interference: Signal, rate: int) -> Pair:
        mixture = target + interference
        gains = gain(mixture, rate)
        return Pair(gains * mixture, gains * target)
    return condition


def gain_of_target(gain: Change) -> Condition:
    return on_target(lambda x, rate: gain(x, rate) * x)


def dry(rt60_s: float, direct_db: float) -> Condition:
    """The speaker in a room, of which the target has only what comes within 50 ms: what a net is for that was trained
    with `AugmentArgs.dereverb`."""
    heard, early = room(rt60_s, direct_db), room(rt60_s, direct_db, until_s=0.05)
    return lambda target, interference, rate: Pair(heard(target, rate) + interference, early(target, rate))


def hiss(dbfs: float) -> Condition:
    """White noise at this level, where the loudest sample of the mixture is at -3 dBFS."""
    def condition(target: Signal, interference: Signal, rate: int) -> Pair:
        mixture = target + interference
        level = np.abs(mixture).max() * 10 ** ((dbfs + 3) / 20)
        noise = np.random.default_rng(5).standard_normal(len(mixture))
        return Pair(mixture + (level * noise).astype(np.float32), target)
    return condition


CONDITIONS: dict[str, Condition] = {
    AS_RECORDED: lambda target, interference, rate: Pair(target + interference, target),
    **{f"low-pass {khz:g} kHz": on_sum(low_pass(1000 * khz)) for khz in (20, 17, 16, 11, 8, 5.5, 4)},
    **{f"target low-pass {khz:g} kHz": on_target(low_pass(1000 * khz)) for khz in (17, 12, 8, 4)},
    **{f"interference low-pass {khz:g} kHz": on_interference(low_pass(1000 * khz)) for khz in (17, 12, 8, 4)},
    **{f"MP3 {kbit} kbit/s": on_sum(codec("libmp3lame", kbit)) for kbit in (128, 64)},
    **{f"AAC {kbit} kbit/s": on_sum(codec("aac", kbit)) for kbit in (128, 64)},
    **{f"Opus {kbit} kbit/s": on_sum(codec("libopus", kbit)) for kbit in (96, 32)},
    "interference Opus 24 kbit/s": on_interference(codec("libopus", 24)),
    **{f"Vorbis q{10 * quality:g}": on_sum(vorbis(quality)) for quality in (0.5, 0.1)},
    **{f"target tilt {db:+g} dB/octave": on_target(tilt(db)) for db in (3, 1.5, -1.5, -3)},
    "target headset": on_target(microphone({80: -20, 200: 0, 1500: 0, 3500: 6, 8000: 2, 12000: -6, 16000: -30})),
    "target laptop": on_target(microphone({150: -18, 400: -2, 800: 4, 1500: -2, 5000: 6, 9000: -3, 18000: -12})),
    "target lapel": on_target(microphone({60: 0, 150: 5, 400: 4, 1000: 0, 3000: -3, 6000: -9, 20000: -12})),
    "target room 0.2 s, -10 dB": on_target(room(0.2, 10)),
    "target room 0.4 s, -5 dB": on_target(room(0.4, 5)),
    "room 0.4 s, -5 dB, dry target": dry(0.4, 5),
    "target compressed 3:1": gain_of_target(compressor),
    "target gated": gain_of_target(gate),
    "compressed 3:1": gain_of_sum(compressor),
    "limited by 10 dB": gain_of_sum(limiter),
    "hiss -50 dBFS": hiss(-50),
    "target 3 % faster": on_target(faster(1.03)),
    "target 3 % slower": on_target(faster(1 / 1.03)),
    "12 dB softer": on_sum(softer(12)),
}


# ---------------------------------------------------------------------------------------------------------------------
# scores


def main(args: BenchArgs) -> dict:
    """Returns the content of conditions.json."""
    chosen = {name: condition for name, condition in CONDITIONS.items()
              if not args.only or name == AS_RECORDED or any(part in name for part in args.only)}
    if unknown := [part for part in args.only if not any(part in name for name in CONDITIONS)]:
        raise UserError(f"BenchArgs.only = {unknown[0]!r}: in no name; there are {', '.join(CONDITIONS)}")
    if not args.checkpoints:
        raise UserError("BenchArgs.checkpoints = (): name a checkpoint")
    device, pairs = pick_device(args.device), find_pairs(Path(args.pairs))
    rate = pairs[0].mixture.rate
    nets = {}
    for path in args.checkpoints:
        net, family = models.load(path)
        if net.args.sample_rate != rate:
            raise UserError(f"{path}: a net of {net.args.sample_rate} Hz, the pairs of {args.pairs} have {rate} Hz")
        nets[name_of(path, nets)] = net.to(device), family

    sounds = [[audio.read(r, 0, r.frames, rate) for r in (pair.mixture, pair.target)] for pair in pairs]
    found: dict[str, dict[str, dict]] = {name: {} for name in nets}
    for condition in tqdm(chosen, unit="condition", dynamic_ncols=True):
        rows = {name: [] for name in nets}
        for pair, (mixture, target) in zip(pairs, sounds, strict=True):
            changed = Pair(*map(torch.from_numpy, chosen[condition](target, mixture - target, rate)))
            kind = pair.kind if present(target) else "absent"
            for name, (net, family) in nets.items():
                with torch.inference_mode():
                    estimate = family.extract(net, changed.mixture[None].to(device), 0)[0].cpu()
                rows[name].append((kind, score(changed, estimate, rate, absent=kind == "absent")))
        for name, scored in rows.items():
            found[name][condition] = summary(scored)
    result = script.run_info(args, Path(args.out_dir)) | {"pairs": len(pairs), "conditions": found}
    tables.write_json(Path(args.out_dir) / "conditions.json", result)
    report.save(figure(found), Path(args.out_dir) / "conditions.png")
    for name, rows in found.items():
        print(f"\n{name}, {len(pairs)} pairs\n\n{table(rows)}")
    return result


def name_of(path: str, taken: dict) -> str:
    name = checkpoint.name_of(path)
    return name if name not in taken else path


def score(pair: Pair, estimate: torch.Tensor, rate: int, *, absent: bool) -> dict[str, float]:
    if absent:
        return {"absent": metrics.relative_level(estimate=estimate, reference=pair.mixture).item()}
    shares = metrics.shares(estimate=estimate, mixture=pair.mixture, reference=pair.target, sample_rate=rate)
    level = metrics.relative_level(estimate=estimate, reference=pair.target).item()
    return {
        "si_sdri": metrics.si_sdri(estimate=estimate, mixture=pair.mixture, reference=pair.target).item(),
        "level": level, "target_loss": 100 * shares.target_loss.item(), "deleted": 100.0 * (level < DELETED_DB),
    }


def summary(scored: list[tuple[str, dict[str, float]]]) -> dict[str, float]:
    """Means: SI-SDRi of every kind, the rest over all pairs that have it."""
    groups = {kind: [row["si_sdri"] for of, row in scored if of == kind and "si_sdri" in row] for kind in KINDS}
    groups |= {m: [row[m] for _, row in scored if m in row] for m in ("level", "target_loss", "deleted", "absent")}
    return {name: float(np.mean(values)) for name, values in groups.items() if values}


HEAD = {"game": "SI-SDRi, game", "voice": "voice", "both": "both", "level": "level, dB", "target_loss": "lost, %",
        "deleted": "deleted, %", "absent": "left of absent"}


def table(rows: dict[str, dict[str, float]]) -> str:
    """Markdown: a row a condition."""
    def cell(name: str, value: float | None) -> str:
        return "-" if value is None else f"{value:.0f}" if name in ("target_loss", "deleted") else f"{value + 0.0:+.1f}"

    return tables.markdown(["condition", *HEAD.values()], [
        [condition, *(cell(name, row.get(name)) for name in HEAD)] for condition, row in rows.items()
    ])


def figure(found: dict[str, dict[str, dict]]) -> Figure:
    """SI-SDRi by condition: a panel a kind, a colour a checkpoint."""
    names = list(next(iter(found.values())))
    chart = Figure(figsize=(11, 1.2 + 0.22 * len(names)), layout="constrained")
    for kind, axes in zip(KINDS, chart.subplots(1, 3, sharey=True, sharex=True), strict=True):
        for i, (name, rows) in enumerate(found.items()):
            values = [rows[condition].get(kind, np.nan) for condition in names]
            axes.plot(values, range(len(names)), "o", color=f"C{i}", ms=4, label=name)
            axes.axvline(values[0], color=f"C{i}", lw=0.5)
        axes.axvline(0, color="black", lw=0.8)
        axes.set(title=kind, xlabel="SI-SDRi, dB", yticks=range(len(names)), yticklabels=names)
        axes.grid(alpha=0.3)
    axes.invert_yaxis()
    axes.legend(fontsize=7)
    return chart


if __name__ == "__main__":
    main(command_line(BenchArgs()))
