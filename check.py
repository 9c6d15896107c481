"""Is this data set fit to train on? Looks at every recording that train.py would use, and says what is wrong with it.

    python check.py                                     # the CheckArgs at the foot of this file
    python check.py --data.clean datasets/clean/alice --data.dirty datasets/dirty/other

`data` is what train.py's `data` is. Prints a table, every flaw, what the recordings share that they should not, and
which of the recordings that infer.py is for sound unlike the clean ones (bandwidth, background, spectrum); writes a row
for every file. The exit status is 1 where training would make no sense.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
from tqdm import tqdm

from dataset import MixtureArgs
from extractor import UserError, audio, landmarks, levels, tables
from extractor.material import (
    held_of_dirty,
    held_out,
    in_voices,
    is_extracted,
    recordings_in,
    refuse_target,
    unlike_captures,
)
from extractor.profile import bandwidth, spectrogram_db
from extractor.script import command_line

BLOCK_S = 48        # read at a time: a whole number of samples at every rate and of landmarks' hops
FULL_SCALE = 1 - 2**-14
CLIPPED = 1e-4      # share of samples at full scale that is worth a word
SHOWN = 40          # lines of a kind on the screen; all are in the file


@dataclass(frozen=True)
class CheckArgs:
    data: MixtureArgs = field(default_factory=MixtureArgs)
    clip_s: tuple[float, float] = (2.0, 30.0)   # a clean clip that is shorter or longer is named
    bandwidth_hz: float = 12_000                # sound that reaches less high is named
    snr_db: float = 20.0                        # clean recordings below it are named
    out: str = "datasets/check.tsv"


class Sound(NamedTuple):
    """What was found in a recording."""

    row: dict
    kinds: list[str]    # of its flaws
    hashes: np.ndarray  # its landmarks
    frames: np.ndarray  # and where they are


def main(args: CheckArgs) -> list[str]:
    """Returns a sentence for everything that makes training senseless."""
    clean, dirty = recordings_in(args.data.clean, "clean"), recordings_in(args.data.dirty, "dirty")
    fatal = []
    try:
        refuse_target(args.data, clean, dirty)
    except UserError as e:
        fatal.append(str(e))
    files = [(path, "clean") for path in clean] + [(path, "dirty") for path in dirty]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = pool.map(lambda file: examine(*file, args), files)
        sounds = list(tqdm(found, "listening", total=len(files), unit="file", dynamic_ncols=True))
    rows = [sound.row for sound in sounds]
    fatal += [f"{row['path']}: {row['fatal']}" for row in rows if row["fatal"]]
    fatal += split(rows, args.data)
    leaks, repeats = shared_sounds(sounds)
    fatal += leaks

    print(f"{table(rows)}\n\n{tally(sounds)}")
    say("Flaws", [f"{row['path']}: {row['flaws']}" for row in rows if row["flaws"]])
    say("Interference that training and validation share", repeats)
    usable = [path for path, row in zip(clean, rows, strict=False) if not row["fatal"]]
    unlike = unlike_captures(args.data, [audio.probe(path, args.data.audio_stream) for path in usable])
    say("Recordings to extract that are unlike the clean ones", unlike)
    say("Training makes no sense before this is put right", fatal)
    rounded = ({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    tables.write(args.out, COLUMNS, rounded)
    print(f"\n{args.out} has a row for every file. {'NOT fit' if fatal else 'Fit'} to train on.")
    return fatal


# --- one recording ---------------------------------------------------------------------------------------------------

def examine(path: Path, kind: str, args: CheckArgs) -> Sound:
    row = dict.fromkeys(COLUMNS, "") | {"path": path.as_posix(), "kind": kind}
    none = np.zeros(0, np.int32)
    try:
        recording = audio.probe(path, args.data.audio_stream)
        row |= {"seconds": recording.seconds, "rate": recording.rate, "channels": recording.channels}
        with audio.kept_open(recording) as files:
            numbers, flaws, hashes, frames = analyse(recording, kind, args)
            flaws |= {"incomplete": damage} if (damage := audio.damage(recording, files)) else {}
    except UserError as e:
        return Sound(row | {"fatal": e.reason}, ["unreadable"], none, none)
    if numbers["loudest_db"] <= levels.QUIET_DB:
        silent = f"silent, nowhere above {levels.QUIET_DB} dBFS"
        flaws = {"silent": silent} | (flaws if "cancelling" in flaws else {})
        if kind == "clean":
            row["fatal"] = silent
    sentences = [flaw for flaw in flaws.values() if flaw != row["fatal"]]
    return Sound(row | numbers | {"flaws": "; ".join(sentences)}, list(flaws), hashes, frames)


def analyse(recording: audio.Recording, kind: str, args: CheckArgs) -> tuple[dict, dict, np.ndarray, np.ndarray]:
    """One pass. -> numbers for the row, flaws by kind, landmarks and where they are"""
    rate, hop = recording.rate, levels.hop_of(recording.rate)
    peak, full, total, products, powers, energies, spectra, marks = 0.0, 0, 0, 0, [], [], [], []
    for start in range(0, recording.frames, BLOCK_S * rate):
        x = audio.read(recording, start, min(BLOCK_S * rate, recording.frames - start), rate, mono=False)
        peak = max(peak, float(np.abs(x).max()))
        full += int((np.abs(x) >= FULL_SCALE).sum())
        product = (x.T @ x).astype(np.float64)
        total, products = total + x.sum(axis=0, dtype=np.float64), products + product
        powers.append(levels.hop_powers(x, hop)[0])
        mono, channel = x.mean(axis=1).astype(np.float32), levels.channel_of(product)
        energies.append(np.add.reduceat(np.square(mono, dtype=np.float64), np.arange(0, len(mono), rate)))
        audible = mono if channel is None else np.ascontiguousarray(x[:, channel], np.float32)
        spectra.append(spectrogram_db(audible, rate))
        hashes, frames = landmarks.landmarks(soxr.resample(audible, rate, landmarks.RATE))
        marks.append((hashes, frames + start * landmarks.RATE // (rate * landmarks.HOP)))

    powers = np.concatenate(powers)
    found = levels.background_and_speech(levels.smooth_levels(powers))
    energy = np.concatenate(energies)
    tens = np.arange(0, len(energy), 10)
    lengths = np.diff(np.append(tens * rate, recording.frames))     # of pieces of 10 s, as train.py looks at them
    loudest = np.max(np.add.reduceat(energy, tens) / lengths)
    numbers = {
        "peak_db": levels.to_db(peak**2), "rms_db": levels.to_db(powers.mean()), "loudest_db": levels.to_db(loudest),
        "clipped": full / (recording.frames * recording.channels),
        "bandwidth_hz": bandwidth(np.concatenate(spectra), rate, moving=kind == "clean"),
        "noise_floor_db": found[0] if found else "", "snr_db": found[1] - found[0] if found else "",
    }
    flaws = dict(flaws_of(recording, kind, numbers, np.abs(total).max() / recording.frames, products, args))
    return numbers, flaws, *(np.concatenate(x).astype(np.int32) for x in zip(*marks, strict=True))


def flaws_of(
    recording: audio.Recording, kind: str, numbers: dict, offset: float, products: np.ndarray, args: CheckArgs
) -> Iterator[tuple[str, str]]:
    """The flaws of a recording: kind -> sentence."""
    shortest, longest = args.clip_s if kind == "clean" else (args.data.segment_s, np.inf)
    if recording.flaw:
        yield "incomplete", recording.flaw
    if recording.n_streams > 1:
        yield "several streams", recording.remarks[-1]
    if recording.seconds < shortest:
        yield "too short", f"only {recording.seconds:.1f} s long"
    if recording.seconds > longest:
        yield "too long", f"{recording.seconds:.0f} s long; slicer.py makes clips of it"
    if numbers["clipped"] > CLIPPED:
        yield "clipped", f"clipped: {numbers['clipped']:.2%} of the samples are at full scale"
    if levels.channel_of(products) is not None:
        yield "cancelling", "its channels cancel each other; keep one of them"
    if offset > levels.OFFSET:
        yield "offset", f"a constant offset of {offset:.2f} of full scale"
    if numbers["bandwidth_hz"] < args.bandwidth_hz:
        yield "narrow", f"nothing above {numbers['bandwidth_hz'] / 1000:.1f} kHz, at a rate of {recording.rate} Hz"
    if kind == "clean" and numbers["snr_db"] == "":
        yield "noisy", "nothing stands out from its background"
    elif kind == "clean" and numbers["snr_db"] < args.snr_db:
        yield "noisy", f"noisy: its background is only {numbers['snr_db']:.0f} dB under the speech"


# --- all of them -----------------------------------------------------------------------------------------------------

def split(rows: list[dict], args: MixtureArgs) -> list[str]:
    """Says in the rows what train.py would hold out in a new run. -> a sentence if it could not"""
    usable = {Path(row["path"]): row for row in rows if not row["fatal"]}
    clean = {path for path, row in usable.items() if row["kind"] == "clean"}
    voices = {path for path in usable.keys() - clean if in_voices(path, args)}
    for row in usable.values():
        row["valid_s"] = 0.0
    human = {path for path in clean if not is_extracted(path)}
    for held, paths in ((held_out, human), (held_of_dirty, voices), (held_of_dirty, usable.keys() - clean - voices)):
        some = {path: row for path, row in usable.items() if path in paths}
        seconds = held(list(some), [row["seconds"] for row in some.values()], args)
        for path, held_s in seconds.items():
            some[path]["valid_s"] = held_s
    return [] if human else ["there is no clean recording, by a person, that can be used"]


def shared_sounds(sounds: list[Sound]) -> tuple[list[str], list[str]]:
    """Sentences for what the clean recordings share with the dirty ones, or those of training with those of validation,
    and for what the dirty ones of training share with those of validation."""
    clean, dirty, valid = 0, 2, 1
    groups = []
    for sound in sounds:
        kind = clean if sound.row["kind"] == "clean" else dirty
        border_s = (sound.row["seconds"] or 0) - (sound.row["valid_s"] or 0)
        groups.append(kind + valid * (sound.frames * landmarks.FRAME_S >= border_s))
    leaks, repeats = [], []
    for match in landmarks.same_sounds([s.hashes for s in sounds], [s.frames for s in sounds], groups):
        a, b = sounds[match.a].row, sounds[match.b].row
        places = f"{a['path']} from {match.at_a_s:.1f} s and {b['path']} from {match.at_b_s:.1f} s"
        same = f"{places} are the same for {match.seconds:.1f} s"
        if a["kind"] != b["kind"]:
            leaks.append(f"{same}: a clean recording in the interference")
        elif a["kind"] == "clean":
            leaks.append(f"{same}: one is for training, one for validation")
        else:
            repeats.append(same)
    return leaks, repeats


# --- what is said ----------------------------------------------------------------------------------------------------

COLUMNS = (
    "path",
    "kind",             # clean, dirty
    "seconds",
    "valid_s",          # held out for validation, at its end
    "rate",             # Hz, of the file
    "channels",
    "peak_db",          # dBFS
    "rms_db",
    "loudest_db",       # of its 10 s pieces
    "clipped",          # share of the samples at full scale
    "bandwidth_hz",     # how high its sound reaches
    "noise_floor_db",
    "snr_db",           # of the speech over it
    "flaws",
    "fatal",            # why it cannot be trained on
)


def table(rows: list[dict]) -> str:
    """Markdown: a line for every folder, one for all clean and one for all dirty recordings."""
    def line(name: str, group: list[dict]) -> list[str]:
        def median(key: str, form: str, scale: float = 1) -> str:
            values = [row[key] * scale for row in group if row[key] != ""]
            return format(float(np.median(values)), form) if values else "-"

        minutes = sum(row["seconds"] or 0 for row in group) / 60
        bad = sum(bool(row["flaws"] or row["fatal"]) for row in group)
        lengths = median("seconds", ".1f"), median("bandwidth_hz", ".1f", 1e-3)
        noise = median("noise_floor_db", ".0f"), median("snr_db", ".0f")
        rates = ", ".join(map(str, sorted({row["rate"] for row in group if row["rate"] != ""}))) or "-"
        return [name, str(len(group)), f"{minutes:.1f}", str(bad), *lengths, *noise, rates]

    head = "folder", "files", "minutes", "with flaws", "s each", "sound to kHz", "noise dBFS", "SNR dB", "rates Hz"
    lines = []
    for kind in ("clean", "dirty"):
        group = [row for row in rows if row["kind"] == kind]
        for folder in sorted({Path(row["path"]).parent.as_posix() for row in group}):
            lines.append(line(folder, [row for row in group if Path(row["path"]).parent.as_posix() == folder]))
        lines.append(line(f"all {kind}", group))
    return "\n" + tables.markdown(head, lines)


def tally(sounds: list[Sound]) -> str:
    """A line for the clean and one for the dirty recordings: how many have which flaw."""
    lines = []
    for kind in ("clean", "dirty"):
        counts = Counter(flaw for sound in sounds if sound.row["kind"] == kind for flaw in sound.kinds)
        lines.append(f"{kind}: {', '.join(f'{n} {flaw}' for flaw, n in counts.most_common()) or 'no flaws'}")
    return "\n".join(lines)


def say(title: str, sentences: list[str]):
    if sentences:
        shown = sentences[:SHOWN] + [f"and {len(sentences) - SHOWN} more"] * (len(sentences) > SHOWN)
        print(f"\n{title} ({len(sentences)}):", *shown, sep="\n  ")


args = CheckArgs(
    # edit here what differs from the defaults above, for example:
    # data=MixtureArgs(clean=("datasets/clean/alice",), dirty=("datasets/dirty/other",)),
)

if __name__ == "__main__":
    fatal = main(command_line(args))
    sys.exit(1 if fatal else 0)
