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
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from extractor import UserError, audio, ledger
from extractor.command import command_line
from extractor.levels import HOP_S, OFFSET, background_and_speech, channel_of, hop_powers, level_db, speech_threshold

FADE_S = 0.01       # cross-fade where a pause was shortened
CLICK_S = 0.03      # what is loud for no longer is a click, no speech
DIP_EVERY_S = 0.5   # of speech: one place to cut it, if it must be
INSIDE = 5          # price of a cut inside speech, twice that where it is as loud as speech is
LOST = 10           # price of a second of speech left out
BLOCK = 1_000_000   # samples looked at at a time


@dataclass(frozen=True)
class SlicerArgs:
    inputs: str = "datasets/raw/speaker/**/*"   # a glob, a folder or a file
    out_dir: str = "datasets/clean/speaker/set"
    min_s: float = 5.0            # no clip is shorter
    max_s: float = 15.0           # or longer
    preferred_s: float = 10.0
    min_pause_s: float = 0.15     # quiet for less is a part of the speech
    max_pause_s: float = 0.7      # a longer pause is shortened to this: its middle goes, the ends are cross-faded
    threshold_db: float | None = None   # dBFS; what is louder is speech; None finds it for each recording
    sample_rate: int = 44100      # Hz, of the clips
    mono: bool = True             # the mean of the channels
    format: Literal["wav", "flac"] = "wav"
    picture: bool = False         # levels and cuts of every recording, as src_<n>.png beside the clips

    def __post_init__(self):
        if not 0 < self.min_s <= self.preferred_s <= self.max_s or self.max_s < self.min_s + 1:
            raise UserError(
                f"SlicerArgs: min_s = {self.min_s}, preferred_s = {self.preferred_s}, max_s = {self.max_s}: "
                "give them in this order, with a second at least from min_s to max_s to find a pause in"
            )
        if not 0.03 <= self.min_pause_s <= self.max_pause_s or self.max_pause_s < 0.1:
            raise UserError(
                f"SlicerArgs: min_pause_s = {self.min_pause_s}, max_pause_s = {self.max_pause_s}: "
                "give 0.03 s or more, 0.1 s or more, in this order"
            )
        if not 1000 <= self.sample_rate <= 384_000:
            raise UserError(f"SlicerArgs.sample_rate = {self.sample_rate}: give 1000 to 384000 Hz")

    @property
    def settings(self) -> str:
        """A digest of all that the clips depend on."""
        kept = {k: v for k, v in asdict(self).items() if k not in ("inputs", "out_dir", "picture")}
        return hashlib.blake2b(repr(sorted(kept.items())).encode(), digest_size=4).hexdigest()


def main(args: SlicerArgs) -> list[str]:
    """Slice every recording. Returns a sentence for each that gave no clips."""
    out_dir = Path(args.out_dir)
    sources = audio.inputs(args.inputs, out_dir)[1]
    rows = ledger.read_table(out_dir)
    ledger.publish(out_dir, rows)  # what a killed run had no time for
    prints, failures = fingerprints(sources)
    todo = to_slice(prints, rows, args, failures)
    numbers = ledger.number([recording.path for recording in todo], rows, out_dir)
    print(f"{len(sources)} recordings, {len(todo)} of them to slice, into {out_dir}")

    with tqdm(total=sum(r.seconds for r in todo), unit="s", unit_scale=True, dynamic_ncols=True) as bar:
        for recording, n in zip(todo, numbers, strict=True):
            bar.set_postfix_str(recording.path.name)
            try:
                new = slice_recording(recording, n, args, bar)
                identity = {"source": recording.path.as_posix(), "fingerprint": prints[recording.path]}
                new = [row | identity | {"settings": args.settings} for row in new]
                ledger.write_table(out_dir, rows + new)
                rows += new
                ledger.publish(out_dir, rows)
            except UserError as e:
                failures.append(str(e))
                tqdm.write(f"passed over: {e}", file=sys.stderr)

    mine = [row for row in rows if row["fingerprint"] in prints.values()]
    print(summary(mine))
    if args.picture:
        draw(prints, rows, args)
    failures += clipless(mine, args)
    if failures:
        print(f"{len(failures)} of {len(sources)} recordings failed:", *failures, sep="\n  ", file=sys.stderr)
    return failures


def slice_recording(recording: audio.Recording, n: int, args: SlicerArgs, bar: tqdm) -> list[dict]:
    """Cut one recording; the clips wait in the staging folder. -> its rows of the table, in order of time"""
    staging = ledger.staging(Path(args.out_dir))
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        track = listen(recording, args, pool, bar)
        plan = plan_cuts(track, find_threshold(recording, track, args), args)
        write = partial(write_clip, recording, track.channel, args)
        paths = [staging / f"src_{n}_{k}.{args.format}" for k in range(len(plan.clips))]
        rows = [describe_drop(drop, args) for drop in plan.drops]
        for path, clip, (peak, rms) in zip(paths, plan.clips, pool.map(write, paths, plan.clips), strict=True):
            rows.append(describe_clip(path.name, clip, peak, rms, args))
            bar.update(clip.length / args.sample_rate / 2)
    finally:
        pool.shutdown(cancel_futures=True)
    for note in notes(recording, track, plan, args):
        tqdm.write(f"{recording.path}: {note}")
    return sorted(rows, key=lambda row: (float(row["start_s"]), not row["clip"]))


# ---------------------------------------------------------------------------------------------------------------------
# listening: one pass over the recording


class Track(NamedTuple):
    """What is known of a recording of `length` samples, counted, like the places, at the rate of the clips."""

    levels: np.ndarray      # dBFS in every hop of 10 ms [L]
    places: np.ndarray      # where in the hop the wave is nearest to zero [L]
    length: int
    channel: int | None     # the only one to use, where the channels would cancel
    offset: float           # mean, of full scale


def listen(recording: audio.Recording, args: SlicerArgs, pool: Executor, bar: tqdm | None) -> Track:
    hop = max(1, round(HOP_S * recording.rate))
    block = hop * max(1, BLOCK // (hop * recording.channels))

    def look(start: int):
        x = audio.read(recording, start, min(block, recording.frames - start), recording.rate, mono=False)
        return *hop_powers(x, hop), x.T @ x, x.sum(axis=0), len(x)

    powers, places, products, sums = [], [], 0, 0
    starts = range(0, recording.frames, block)
    for start, (power, place, product, total, n) in zip(starts, pool.map(look, starts), strict=True):
        powers.append(power)
        places.append(np.arange(len(place)) * hop + place + start)
        products, sums = products + product.astype(np.float64), sums + total.astype(np.float64)
        if bar is not None:
            bar.update(n / recording.rate / 2)
    length = recording.length(args.sample_rate)
    at_clip_rate = np.round(np.concatenate(places) * (args.sample_rate / recording.rate)).astype(int)
    return Track(
        level_db(np.concatenate(powers)), np.minimum(at_clip_rate, length), length,
        channel_of(products) if args.mono else None, float(np.abs(sums).max() / recording.frames),
    )


class Threshold(NamedTuple):
    """dBFS"""

    background: float
    speech: float
    level: float    # what is louder counts as speech


def find_threshold(recording: audio.Recording, track: Track, args: SlicerArgs) -> Threshold:
    found = background_and_speech(track.levels, above=args.threshold_db)
    if found:
        return Threshold(*found, args.threshold_db if args.threshold_db is not None else speech_threshold(*found))
    nothing = f"{recording.path}: no speech found in {recording.seconds:.1f} s"
    if args.threshold_db is not None:
        highest = f"never above {track.levels.max():.0f} dBFS"
        raise UserError(f"{nothing}: {highest}; lower threshold_db = {args.threshold_db:g}")
    raise UserError(
        f"{nothing}: nothing stands out from its background of {np.percentile(track.levels, 2):.0f} dBFS; "
        "if it is speech all the same, give a threshold_db below that"
    )


# ---------------------------------------------------------------------------------------------------------------------
# planning: where to cut. README, "Slicing", has the formula


class Clip(NamedTuple):
    pieces: list[tuple[int, int]]   # samples of the recording; joined where pauses were shortened
    speech_s: float
    noise_floor: float              # dBFS
    forced: str                     # which end is inside speech: "", "start", "end", "both"

    @property
    def length(self) -> int:
        return sum(end - start for start, end in self.pieces)


class Drop(NamedTuple):
    start: int
    end: int
    speech_s: float
    reason: str


class Plan(NamedTuple):
    clips: list[Clip]
    drops: list[Drop]   # with the clips they make up the whole recording


class Cut(NamedTuple):
    """A place to cut. Where a pause is shortened there, its middle lies between `left` and `right`."""

    left: int       # a clip before it ends here
    right: int      # a clip behind it starts here
    hop: int        # the hops before count as before it
    price: float
    inside: bool    # of speech


def plan_cuts(track: Track, threshold: Threshold, args: SlicerArgs) -> Plan:
    pauses = find_pauses(track.levels, threshold.level, args.min_pause_s)
    is_speech = np.ones(len(track.levels), bool)
    for start, end in pauses:
        is_speech[start:end] = False
    cuts = sorted(pause_cuts(track, pauses, threshold, args) + dips(track, is_speech, threshold))

    left, right = (np.array([getattr(cut, side) for cut in cuts]) for side in ("left", "right"))
    position = left - np.append(0, np.cumsum(right - left)[:-1])  # with all pauses shortened
    speech_s = np.append(0, np.cumsum(is_speech))[[cut.hop for cut in cuts]] * HOP_S
    chosen = best_clips(
        position, np.array([cut.price for cut in cuts]), speech_s,
        shortest=math.ceil(args.min_s * args.sample_rate), longest=math.floor(args.max_s * args.sample_rate),
        preferred=round(args.preferred_s * args.sample_rate),
    )

    clips, drops, end, behind = [], [], 0, 0    # up to the sample `end`, the cut `behind`, all is accounted for
    for first, last in chosen:
        if cuts[first].right > end:
            drops.append(dropped(end, cuts[first].right, speech_s[first] - speech_s[behind]))
        removed = [cut for cut in cuts[first + 1 : last] if cut.right > cut.left]
        drops += [Drop(cut.left, cut.right, 0.0, "pause shortened") for cut in removed]
        edges = [cuts[first].right, *(x for cut in removed for x in (cut.left, cut.right)), cuts[last].left]
        floor = np.percentile(track.levels[cuts[first].hop : cuts[last].hop], 10)
        forced = {(0, 0): "", (1, 0): "start", (0, 1): "end", (1, 1): "both"}[cuts[first].inside, cuts[last].inside]
        pieces = list(zip(edges[::2], edges[1::2], strict=True))
        clips.append(Clip(pieces, speech_s[last] - speech_s[first], float(floor), forced))
        end, behind = cuts[last].left, last
    if track.length > end:
        drops.append(dropped(end, track.length, speech_s[-1] - speech_s[behind]))
    return Plan(clips, drops)


def dropped(start: int, end: int, speech_s: float) -> Drop:
    return Drop(start, end, speech_s, "speech that fits no clip" if speech_s > 0 else "pause")


def find_pauses(levels: np.ndarray, threshold_db: float, min_pause_s: float) -> list[tuple[int, int]]:
    """Hops from and to: quiet for min_pause_s, clicks or no, and whatever is quiet at either end of the recording."""
    loud = levels > threshold_db
    for start, end in runs(loud):
        if (end - start) * HOP_S <= CLICK_S:
            loud[start:end] = False
    long = round(min_pause_s / HOP_S)
    return [(a, b) for a, b in runs(~loud) if b - a >= long or a == 0 or b == len(levels)]


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Where the mask is true: from, to."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def pause_cuts(track: Track, pauses: list, threshold: Threshold, args: SlicerArgs) -> list[Cut]:
    """One for every pause, one at either end of the recording. A pause longer than max_pause_s loses its middle; a
    shorter one is cut where it is deepest, though not near the speech around it.
    """
    levels, places, n = track.levels, track.places.tolist(), len(track.levels)
    longest = args.max_pause_s / HOP_S
    side = int((longest - 1) / 2)   # hops kept on either side of what goes
    start, end = Cut(0, 0, 0, 0.0, False), Cut(track.length, track.length, n, 0.0, False)
    cuts = []
    for a, b in pauses:
        if a == 0:
            start = start._replace(right=places[b - side] if b > side else 0)
        elif b == n:
            end = end._replace(left=places[a + side] if b - a > side else track.length)
        else:
            quarter = (b - a) // 4
            deepest = a + quarter + int(levels[a + quarter : b - quarter].argmin())
            depth = (threshold.level - levels[deepest]) / max(threshold.level - threshold.background, 1e-9)
            price = 1 - min(1, (b - a) / longest) * min(1, depth)
            left, right = (a + side, b - side) if b - a > longest else (deepest, deepest)
            cuts.append(Cut(places[left], places[right], deepest, price, False))
    return [start, *cuts, end]


def dips(track: Track, is_speech: np.ndarray, threshold: Threshold) -> list[Cut]:
    """The quietest hop of every half second, where it is speech: the last resort."""
    window = round(DIP_EVERY_S / HOP_S)
    levels = np.where(is_speech, track.levels, np.inf)
    levels = np.pad(levels, (0, -len(levels) % window), constant_values=np.inf).reshape(-1, window)
    hops = np.arange(len(levels)) * window + levels.argmin(axis=1)
    above = (levels.min(axis=1) - threshold.level) / max(threshold.speech - threshold.level, 1e-9)
    return [
        Cut(int(track.places[hop]), int(track.places[hop]), int(hop), INSIDE * (1 + min(1, max(0, x))), True)
        for hop, x in zip(hops, above.tolist(), strict=True) if x < np.inf
    ]


def best_clips(
    position: np.ndarray, price: np.ndarray, speech_s: np.ndarray, *, shortest: int, longest: int, preferred: int
) -> list[tuple[int, int]]:
    """The cheapest way to make clips from cut to cut, by dynamic programming; between clips, material may be left out.

    A clip costs the price of its two cuts and ((length - preferred) / (longest - shortest))^2; speech that is left out
    costs LOST a second. position: of the cuts, in samples, rising; speech_s: the speech before each. [C] -> (cut, cut)s
    """
    cost, came_from = np.zeros(len(position)), np.full(len(position), -1)   # up to each cut; -1: nothing ends here
    lows = np.searchsorted(position, position - longest)
    highs = np.searchsorted(position, position - shortest, side="right")
    for end in range(1, len(position)):
        cost[end] = cost[end - 1] + LOST * (speech_s[end] - speech_s[end - 1])
        starts = slice(lows[end], highs[end])
        if lows[end] < highs[end]:
            off = (position[end] - position[starts] - preferred) / (longest - shortest)
            ways = cost[starts] + price[starts] + price[end] + off * off
            best = ways.argmin()
            if ways[best] <= cost[end]:
                cost[end], came_from[end] = ways[best], lows[end] + best
    clips, end = [], len(position) - 1
    while end > 0:
        if came_from[end] >= 0:
            clips.append((int(came_from[end]), end))
        end = came_from[end] if came_from[end] >= 0 else end - 1
    return clips[::-1]


# ---------------------------------------------------------------------------------------------------------------------
# writing: a second pass


def write_clip(recording: audio.Recording, channel: int | None, args: SlicerArgs, path: Path, clip: Clip):
    """-> peak and rms in dBFS. Samples are those of the recording, save for the cross-fades and another rate's."""
    rate = args.sample_rate
    fade = round(FADE_S * rate)
    out = None
    for start, end in clip.pieces:
        piece = audio.read(recording, start, end - start + fade, rate, mono=False)
        if args.mono:
            piece = piece.mean(axis=1, keepdims=True) if channel is None else piece[:, channel : channel + 1]
        out = piece if out is None else cross_fade(out, piece, fade)
    out = out[: clip.length]
    peak = float(np.abs(out).max())
    if args.format == "flac" and peak > 1:
        raise UserError(f"{recording.path}: peaks at {peak:.2f} of full scale, which flac cannot hold; use format wav")
    audio.write(path, [out], len(out), rate, channels=out.shape[1], subtype=subtype_of(recording, channel, args))
    return to_db(peak), to_db(np.sqrt(np.square(out, dtype=np.float64).mean()))


def cross_fade(head: np.ndarray, tail: np.ndarray, n: int) -> np.ndarray:
    """The last n samples of the one fall while the first n of the other rise, the sum of both gains one."""
    rise = (0.5 - 0.5 * np.cos(np.pi * (np.arange(n) + 0.5) / n)).astype(head.dtype)[:, None]
    return np.concatenate([head[:-n], head[-n:] * (1 - rise) + tail[:n] * rise, tail[n:]])


def subtype_of(recording: audio.Recording, channel: int | None, args: SlicerArgs) -> str:
    """The recording's own sample format where the samples stay what they are, else one that is finer."""
    untouched = recording.rate == args.sample_rate and (recording.channels == 1 or not args.mono or channel is not None)
    eight_bit = ("PCM_U8", "PCM_S8", "ULAW", "ALAW")
    own = "PCM_16" if recording.subtype in eight_bit else recording.subtype
    if args.format == "flac":
        return own if untouched and own == "PCM_16" else "PCM_24"
    return own if untouched and own in ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE") else "FLOAT"


def to_db(x: float) -> float:
    return 20 * math.log10(max(x, 1e-7))


# ---------------------------------------------------------------------------------------------------------------------
# what the table says

def describe_clip(name: str, clip: Clip, peak_db: float, rms_db: float, args: SlicerArgs) -> dict:
    span = clip.pieces[0][0], clip.pieces[-1][1]
    return describe(*span, clip.length, clip.speech_s, args) | {
        "clip": name, "peak_db": f"{peak_db:.1f}", "rms_db": f"{rms_db:.1f}",
        "noise_floor_db": f"{clip.noise_floor:.1f}", "forced": clip.forced,
    }


def describe_drop(drop: Drop, args: SlicerArgs) -> dict:
    return describe(drop.start, drop.end, drop.end - drop.start, drop.speech_s, args) | {"reason": drop.reason}


def describe(start: int, end: int, length: int, speech_s: float, args: SlicerArgs) -> dict:
    rate = args.sample_rate
    numbers = {"start_s": start / rate, "end_s": end / rate, "seconds": length / rate}
    numbers["speech_share"] = min(1.0, speech_s * rate / length)
    return dict.fromkeys(ledger.COLUMNS, "") | {k: f"{v:.6f}" for k, v in numbers.items()}


# ---------------------------------------------------------------------------------------------------------------------
# what is left to do

def fingerprints(sources: list[Path]) -> tuple[dict[Path, str], list[str]]:
    """-> of every file that can be read its fingerprint, of every other one a sentence"""
    prints, failures = {}, []
    for path in sources:
        try:
            prints[path] = ledger.fingerprint(path)
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
        try:
            if same and same["settings"] != args.settings:
                raise UserError(f"{path}: sliced before with other settings; choose another out_dir, or delete it")
            if same and same["source"] != path.as_posix():
                print(f"{path}: the same file as {same['source']}, whose clips do for both")
            if same is None and path.as_posix() in names:
                raise UserError(f"{path}: is no longer the file that was sliced before; choose another out_dir")
            if same is None:
                todo.append(audio.probe(path))
                before[identity] = {"source": path.as_posix(), "settings": args.settings}
        except UserError as e:
            failures.append(str(e))
    return todo


# ---------------------------------------------------------------------------------------------------------------------
# what is said


def notes(recording: audio.Recording, track: Track, plan: Plan, args: SlicerArgs) -> list[str]:
    found = []
    if recording.cut_off:
        found.append(f"cut off at its end; the {recording.seconds:.1f} s that are there were sliced")
    if recording.rate < args.sample_rate:
        found.append(f"{recording.rate} Hz: its clips hold nothing above {recording.rate / 2000:g} kHz")
    if track.channel is not None:
        found.append(f"its channels would cancel each other; channel {track.channel + 1} alone was used")
    elif args.mono and recording.channels > 2:
        found.append(f"{recording.channels} channels, of which the clips are the mean")
    if track.offset > OFFSET:
        found.append(f"a constant offset of {track.offset:.2f} of full scale; its clips begin and end with a step")
    if forced := sum(clip.forced in ("end", "both") for clip in plan.clips):
        found.append(f"no pause within reach: {forced} cuts are inside speech (column `forced`)")
    lost, speech = sum(d.speech_s for d in plan.drops), sum(x.speech_s for x in (*plan.clips, *plan.drops))
    if lost > 0.02 * speech:
        found.append(f"{lost:.1f} of {speech:.1f} s of speech fit no clip of {args.min_s:g} to {args.max_s:g} s")
    return found


def clipless(rows: list[dict], args: SlicerArgs) -> list[str]:
    """A sentence for every recording whose rows have no clip."""
    sources = {row["source"]: 0.0 for row in rows}
    for row in rows:
        sources[row["source"]] += float(row["seconds"]) * float(row["speech_share"])
    return [
        f"{source}: {seconds:.1f} s of speech, too short for a clip of min_s = {args.min_s:g} s; lower min_s"
        for source, seconds in sources.items() if not any(row["clip"] for row in rows if row["source"] == source)
    ]


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
        f"cuts inside speech: {inside}; {ledger.TABLE} has the rows"
    )


def draw(prints: dict[Path, str], rows: list[dict], args: SlicerArgs):
    """A picture of every recording that has clips and no picture yet."""
    from extractor import report  # here: matplotlib takes its time, and only those wait who ask

    for path, identity in tqdm(prints.items(), "drawing", unit="file", leave=False):
        mine = [row for row in rows if row["fingerprint"] == identity]
        clips = [row["clip"] for row in mine if row["clip"]]
        if clips and not (picture := Path(args.out_dir) / (clips[0].rsplit("_", 1)[0] + ".png")).exists():
            recording = audio.probe(path)
            with ThreadPoolExecutor(1) as pool:
                track = listen(recording, args, pool, None)
            spans = [(float(row["start_s"]), float(row["end_s"]), row["clip"], row["forced"]) for row in mine]
            lines = find_threshold(recording, track, args)._asdict()
            report.save(report.cuts(track.levels, HOP_S, spans, lines), picture)


if __name__ == "__main__":
    sys.exit(bool(main(command_line(SlicerArgs(
        inputs="datasets/raw/speaker/**/*",
        out_dir="datasets/clean/speaker/set",
    )))))
