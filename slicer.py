"""Cut long recordings of one speaker into clips to train on, where nobody speaks.

    python slicer.py                                    # the SlicerArgs at the foot of this file
    python slicer.py --inputs "datasets/raw/alice/**/*" --out-dir datasets/clean/alice/set --min-s 3

Every clip src_<n>_<k> is between min_s and max_s long. slices.tsv beside the clips says where each came from, what was
left out, and why. Recordings that it names are left alone: give the same command again for new ones, or after a kill.
"""

import hashlib
import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from extractor import UserError, audio, levels, require, slicing
from extractor.files import content_hash, folder_lock
from extractor.script import command_line
from extractor.slicing import Clip, Hops, Limits, Plan, Threshold, plan_cuts

BLOCK = 1_000_000   # samples looked at at a time
SAVE_EVERY_S = 2    # of work; a kill loses no more


@dataclass(frozen=True)
class SlicerArgs:
    inputs: str = "datasets/raw/speaker/**/*"   # a glob, a folder or a file
    out_dir: str = "datasets/clean/speaker/set"
    min_s: float = 5.0            # no clip is shorter
    max_s: float = 15.0           # or longer
    min_pause_s: float = 0.15     # quiet for less is a part of the speech
    max_pause_s: float = 0.7      # a longer pause is shortened to this: its middle goes, the ends are cross-faded
    threshold_db: float | None = None   # dBFS; what is louder is speech; None finds it for each recording
    audio_stream: int = 0         # the one to use where a film has several
    sample_rate: int = 44100      # Hz, of the clips
    mono: bool = True             # the mean of the channels
    format: Literal["wav", "flac"] = "wav"
    picture: bool = False         # levels and cuts of every recording, as src_<n>.png beside the clips

    def __post_init__(self):
        if not 0 < self.min_s <= self.max_s - 1 < math.inf:
            remedy = "give min_s more than 0, and max_s at least a second more than min_s, but finite"
            raise UserError(f"SlicerArgs: min_s = {self.min_s}, max_s = {self.max_s}: {remedy}")
        if not 0.03 <= self.min_pause_s <= self.max_pause_s < math.inf or self.max_pause_s < 0.1:
            remedy = "give min_pause_s 0.03 s or more, and max_pause_s 0.1 s or more and no less than min_pause_s"
            raise UserError(f"SlicerArgs: min_pause_s = {self.min_pause_s}, max_pause_s = {self.max_pause_s}: {remedy}")
        require(self, "sample_rate", 1000 <= self.sample_rate <= 384_000, "give 1000 to 384000 Hz")

    @property
    def limits(self) -> Limits:
        low, high = self.min_s * self.sample_rate, self.max_s * self.sample_rate
        return Limits(math.ceil(low), math.floor(high), round((low + high) / 2), self.min_pause_s, self.max_pause_s)

    @property
    def settings(self) -> str:
        """A digest of all that the clips depend on."""
        kept = {k: v for k, v in asdict(self).items() if k not in ("inputs", "out_dir", "picture")}
        return hashlib.blake2b(repr(sorted(kept.items())).encode(), digest_size=4).hexdigest()


def main(args: SlicerArgs) -> list[str]:
    """Slice every recording. Returns a sentence for each that gave no clips."""
    sources = audio.inputs(args.inputs, args.out_dir, slicing.TABLE)[1]
    with folder_lock(args.out_dir):
        return slice_all(sources, args)


def slice_all(sources: list[Path], args: SlicerArgs) -> list[str]:
    """Slice the recordings that were not sliced before. Returns a sentence for each that gave no clips."""
    out_dir = Path(args.out_dir)
    rows = slicing.read_table(out_dir)
    slicing.publish(out_dir, rows)  # what a killed run had no time for
    saved = time.monotonic()
    prints, failures = fingerprints(sources)
    wanted = set(prints.values())
    tried = {row["fingerprint"] for row in rows if row["settings"] != args.settings} & wanted
    again = tried - {row["fingerprint"] for row in rows if row["clip"]}  # with these settings there may be clips
    rows = [row for row in rows if row["fingerprint"] not in again]
    todo = to_slice(prints, rows, args, failures)
    numbers = slicing.number([recording.path for recording in todo], rows, out_dir)
    print(f"{len(sources)} recordings, {len(todo)} of them to slice, into {out_dir}")

    with tqdm(total=1 + int(sum(r.seconds for r in todo)), unit="s", unit_scale=True, dynamic_ncols=True) as bar:
        for recording, n in zip(todo, numbers, strict=True):
            bar.set_postfix_str(recording.path.name)
            identity = {"source": recording.path.as_posix(), "fingerprint": prints[recording.path]}
            identity["settings"] = args.settings
            try:
                rows += [row | identity for row in slice_recording(recording, n, args, bar)]
            except UserError as e:
                failures.append(str(e))
                tqdm.write(f"passed over: {e}", file=sys.stderr)
            if time.monotonic() > saved + SAVE_EVERY_S or recording is todo[-1]:
                slicing.save(out_dir, rows)
                saved = time.monotonic()

    mine = [row for row in rows if row["fingerprint"] in wanted]
    print(summary(mine))
    if args.picture:
        draw(prints, mine, args)
    failures += too_short(mine, args)
    if failures:
        print(f"{len(failures)} of {len(sources)} recordings failed:", *failures, sep="\n  ", file=sys.stderr)
    return failures


def slice_recording(recording: audio.Recording, n: int, args: SlicerArgs, bar: tqdm) -> list[dict]:
    """Cut one recording; the clips wait in the staging folder. -> its rows of the table, in order of time"""
    staging = Path(args.out_dir) / slicing.STAGING
    with audio.kept_open(recording) as files, threads() as pool:
        track = track_of(recording, args, pool, bar)
        damage = audio.damage(recording, files)
        plan = plan_cuts(track.hops, find_threshold(recording, track.hops, args), args.limits)
        write = partial(write_clip, recording, track.channel, args)
        paths = [staging / f"src_{n}_{k}.{args.format}" for k in range(len(plan.clips))]
        rows = [describe(d.start, d.end, d.end - d.start, d.speech_s, args) | {"reason": d.reason} for d in plan.drops]
        for path, clip, (peak, rms) in zip(paths, plan.clips, pool.map(write, paths, plan.clips), strict=True):
            rows.append(describe_clip(path.name, clip, peak, rms, args))
            bar.update(clip.length / args.sample_rate / 2)
    if damage:
        tqdm.write(f"{recording.path}: {damage}")
    for note in notes(recording, track, plan, args):
        tqdm.write(f"{recording.path}: {note}")
    return sorted(rows, key=lambda row: (float(row["start_s"]), not row["clip"]))


@contextmanager
def threads() -> Iterator[Executor]:
    """What waits in it is given up where something fails."""
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


# --- listening: one pass over the recording --------------------------------------------------------------------------

class Track(NamedTuple):
    hops: Hops              # counted at the rate of the clips
    channel: int | None     # the only one to use, where the channels would cancel
    offset: float           # mean, of full scale


def track_of(recording: audio.Recording, args: SlicerArgs, pool: Executor, bar: tqdm) -> Track:
    hop = levels.hop_of(recording.rate)
    block = hop * max(1, BLOCK // (hop * recording.channels))

    def look(start: int):
        x = audio.read(recording, start, min(block, recording.frames - start), recording.rate, mono=False)
        return *levels.hop_powers(x, hop), x.T @ x, x.sum(axis=0), len(x)

    powers, places, products, sums = [], [], 0, 0
    starts = range(0, recording.frames, block)
    for start, (power, place, product, total, n) in zip(starts, pool.map(look, starts), strict=True):
        powers.append(power)
        places.append(np.arange(len(place)) * hop + place + start)
        products, sums = products + product.astype(np.float64), sums + total.astype(np.float64)
        bar.update(n / recording.rate / 2)
    length = recording.length(args.sample_rate)
    at_clip_rate = np.round(np.concatenate(places) * (args.sample_rate / recording.rate)).astype(int)
    in_db = levels.smooth_levels(np.concatenate(powers))
    hops = Hops(in_db, hop / recording.rate, np.minimum(at_clip_rate, length), length)
    channel = levels.channel_of(products) if args.mono else None
    return Track(hops, channel, float(np.abs(sums).max() / recording.frames))


def find_threshold(recording: audio.Recording, hops: Hops, args: SlicerArgs) -> Threshold:
    found = levels.background_and_speech(hops.levels, above=args.threshold_db)
    if found:
        return Threshold(*found, levels.speech_threshold(*found) if args.threshold_db is None else args.threshold_db)
    if hops.levels.max() <= levels.SILENCE_DB:
        raise UserError(f"{recording.path}: {recording.seconds:.1f} s of digital silence; is it the right file?")
    nothing = f"{recording.path}: no speech found in {recording.seconds:.1f} s"
    if args.threshold_db is not None:
        highest = f"never above {hops.levels.max():.0f} dBFS"
        raise UserError(f"{nothing}: {highest}; lower threshold_db = {args.threshold_db:g}")
    background = f"nothing stands out from its background of {np.percentile(hops.levels, 2):.0f} dBFS"
    raise UserError(f"{nothing}: {background}; if it is speech all the same, give a threshold_db below that")


# --- writing: a second pass ------------------------------------------------------------------------------------------

def write_clip(recording: audio.Recording, channel: int | None, args: SlicerArgs, path: Path, clip: Clip):
    """-> peak and rms in dBFS. Samples are those of the recording, save for the cross-fades and another rate's."""
    rate = args.sample_rate

    def read(start: int, n: int) -> np.ndarray:
        piece = audio.read(recording, start, n, rate, mono=False)
        if args.mono:
            piece = piece.mean(axis=1, keepdims=True) if channel is None else piece[:, channel : channel + 1]
        return piece

    out = slicing.joined(read, clip.pieces, rate)
    peak = float(np.abs(out).max())
    if args.format == "flac" and peak > 1:
        raise UserError(f"{recording.path}: peaks at {peak:.2f} of full scale, which flac cannot hold; use format wav")
    audio.write(path, [out], len(out), rate, channels=out.shape[1], subtype=subtype_of(recording, channel, args))
    return levels.to_db(peak**2), levels.to_db(np.square(out, dtype=np.float64).mean())


def subtype_of(recording: audio.Recording, channel: int | None, args: SlicerArgs) -> str:
    """The recording's own sample format where the samples stay what they are, else one that is finer."""
    untouched = recording.rate == args.sample_rate and (recording.channels == 1 or not args.mono or channel is not None)
    own = "PCM_16" if recording.subtype in ("PCM_U8", "PCM_S8", "ULAW", "ALAW") else recording.subtype  # of 8 bits
    if args.format == "flac":
        return own if untouched and own == "PCM_16" else "PCM_24"
    return own if untouched and own in ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE") else "FLOAT"


# --- what the table says ---------------------------------------------------------------------------------------------

def describe_clip(name: str, clip: Clip, peak_db: float, rms_db: float, args: SlicerArgs) -> dict:
    return describe(clip.pieces[0][0], clip.pieces[-1][1], clip.length, clip.speech_s, args) | {
        "clip": name, "peak_db": f"{peak_db:.1f}", "rms_db": f"{rms_db:.1f}",
        "noise_floor_db": f"{clip.noise_floor:.1f}", "forced": clip.forced,
    }


def describe(start: int, end: int, length: int, speech_s: float, args: SlicerArgs) -> dict:
    rate = args.sample_rate
    numbers = {"start_s": start / rate, "end_s": end / rate, "seconds": length / rate}
    numbers["speech_share"] = min(1.0, speech_s * rate / length)
    return dict.fromkeys(slicing.COLUMNS, "") | {k: f"{v:.6f}" for k, v in numbers.items()}


# --- what is left to do ----------------------------------------------------------------------------------------------

def fingerprints(sources: list[Path]) -> tuple[dict[Path, str], list[str]]:
    """-> of every file that can be read its fingerprint, of every other one a sentence"""
    prints, failures = {}, []
    for path in sources:
        try:
            prints[path] = content_hash(path)
        except UserError as e:
            failures.append(str(e))
    return prints, failures


def to_slice(prints: dict[Path, str], rows: list[dict], args: SlicerArgs, failures: list[str]) -> list[audio.Recording]:
    """What was not sliced before. Adds a sentence to `failures` for what cannot be, or only anew."""
    before = {row["fingerprint"]: row for row in rows}
    names = {row["source"] for row in rows}
    todo = []
    for path, identity in prints.items():
        same = before.get(identity)
        if same and same["settings"] != args.settings:
            remedy = f"delete {args.out_dir}, or choose another out_dir and train on one of the two"
            failures.append(f"{path}: sliced before with other settings; {remedy}")
        elif same and same["source"] != path.as_posix():
            print(f"{path}: the same file as {same['source']}, whose clips do for both")
        elif not same and path.as_posix() in names:
            remedy = f"delete its clips and its rows in {Path(args.out_dir, slicing.TABLE)}, and run again"
            failures.append(f"{path}: is no longer the file that was sliced before; {remedy}")
        elif not same:
            try:
                todo.append(audio.probe(path, args.audio_stream))
                before[identity] = {"source": path.as_posix(), "settings": args.settings}
            except UserError as e:
                failures.append(str(e))
    return todo


# --- what is said ----------------------------------------------------------------------------------------------------

def notes(recording: audio.Recording, track: Track, plan: Plan, args: SlicerArgs) -> list[str]:
    found = [*recording.remarks]
    if recording.rate < args.sample_rate:
        found.append(f"{recording.rate} Hz: its clips hold nothing above {recording.rate / 2000:g} kHz")
    if track.channel is not None:
        found.append(f"its channels would cancel each other; channel {track.channel + 1} alone was used")
    elif args.mono and recording.channels > 2:
        found.append(f"{recording.channels} channels, of which the clips are the mean")
    if track.offset > levels.OFFSET:
        found.append(f"a constant offset of {track.offset:.2f} of full scale; its clips begin and end with a step")
    if forced := sum(clip.forced in ("end", "both") for clip in plan.clips):
        found.append(f"no pause within reach: {forced} cuts are inside speech (column `forced`)")
    lost, speech = sum(d.speech_s for d in plan.drops), sum(x.speech_s for x in (*plan.clips, *plan.drops))
    if lost > 0.02 * speech:
        found.append(f"{lost:.1f} of {speech:.1f} s of speech fit no clip of {args.min_s:g} to {args.max_s:g} s")
    return found


def too_short(rows: list[dict], args: SlicerArgs) -> list[str]:
    """A sentence for every recording whose rows have no clip."""
    speech_s: dict[str, float] = defaultdict(float)
    for row in rows:
        speech_s[row["source"]] += float(row["seconds"]) * float(row["speech_share"])
    with_clips = {row["source"] for row in rows if row["clip"]}
    short = f"too short for a clip of min_s = {args.min_s:g} s; lower min_s"
    return [f"{source}: {s:.1f} s of speech, {short}" for source, s in speech_s.items() if source not in with_clips]


def summary(rows: list[dict]) -> str:
    def seconds(rows: list[dict], *columns: str) -> float:
        return sum(math.prod(float(row[c]) for c in columns) for row in rows)

    clips, drops = ([row for row in rows if bool(row["clip"]) is kept] for kept in (True, False))
    if not clips:
        return "no clips"
    lengths = [float(row["seconds"]) for row in clips]
    kept, speech, lost = seconds(clips, "seconds"), *(seconds(x, "seconds", "speech_share") for x in (clips, drops))
    inside = sum(row["forced"] in ("end", "both") for row in clips)
    return (
        f"{len(clips)} clips of {min(lengths):.1f} to {max(lengths):.1f} s (mean {kept / len(clips):.1f}), "
        f"{kept / 60:.1f} min, {speech / kept:.0%} of it speech\n"
        f"left out: {(seconds(drops, 'seconds') - lost) / 60:.1f} min of pauses, {lost:.1f} s of speech; "
        f"cuts inside speech: {inside}; {slicing.TABLE} has the rows"
    )


def draw(prints: dict[Path, str], rows: list[dict], args: SlicerArgs):
    """A picture of every recording that has clips and no picture yet."""
    from extractor import report  # here: matplotlib takes its time, and only those wait who ask

    of_recording = defaultdict(list)
    for row in rows:
        if row["settings"] == args.settings:
            of_recording[row["fingerprint"]].append(row)
    for path, identity in tqdm(prints.items(), "drawing", unit="file", leave=False):
        mine = of_recording[identity]
        clips = [row["clip"] for row in mine if row["clip"]]
        if clips and not (picture := Path(args.out_dir) / (clips[0].rsplit("_", 1)[0] + ".png")).exists():
            recording = audio.probe(path, args.audio_stream)
            with audio.kept_open(recording), threads() as pool:
                hops = track_of(recording, args, pool, tqdm(disable=True)).hops
            spans = [(float(row["start_s"]), float(row["end_s"]), row["clip"], row["forced"]) for row in mine]
            lines = find_threshold(recording, hops, args)._asdict()
            report.save(report.cuts(hops.levels, hops.hop_s, spans, lines), picture)


args = SlicerArgs(
    # edit here what differs from the defaults above, for example:
    # inputs="datasets/raw/alice/**/*",
    # out_dir="datasets/clean/alice/talks",
)

if __name__ == "__main__":
    failures = main(command_line(args))
    sys.exit(1 if failures else 0)
