"""Where to cut a recording into clips, and the table of what was cut. docs/slicing.md has the formula."""

import re
import shutil
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from extractor import UserError, tables
from extractor.files import replace

# ---------------------------------------------------------------------------------------------------------------------
# where to cut: the best places over all of the recording. Positions are samples of the recording at the rate of the
# clips; hops are those of extractor.levels

FADE_S = 0.01       # cross-fade where a pause was shortened
CLICK_S = 0.04      # what is loud for no longer, in levels over three hops, is a click, no speech
DIP_EVERY_S = 0.5   # of speech: one place to cut it, if it must be
INSIDE = 5          # price of a cut inside speech, twice that where it is as loud as speech is
LOST = 10           # price of a second of speech left out


class Hops(NamedTuple):
    """A recording of `length` samples, hop by hop."""

    levels: np.ndarray      # dBFS [L]
    hop_s: float            # about 10 ms: a whole number of samples
    places: np.ndarray      # the sample in each where the wave is nearest to zero [L]
    length: int


class Threshold(NamedTuple):
    """dBFS"""

    background: float
    speech: float
    level: float    # what is louder counts as speech


class Limits(NamedTuple):
    shortest: int       # samples in a clip
    longest: int
    preferred: int
    min_pause_s: float  # quiet for less is a part of the speech
    max_pause_s: float  # longer pauses are shortened


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


def plan_cuts(recording: Hops, threshold: Threshold, limits: Limits) -> Plan:
    pauses = find_pauses(recording, threshold.level, limits.min_pause_s)
    is_speech = np.ones(len(recording.levels), bool)
    for start, end in pauses:
        is_speech[start:end] = False
    cuts = sorted(pause_cuts(recording, pauses, threshold, limits.max_pause_s) + dips(recording, is_speech, threshold))

    left, right = (np.array([getattr(cut, side) for cut in cuts]) for side in ("left", "right"))
    position = left - np.append(0, np.cumsum(right - left)[:-1])  # with all pauses shortened
    speech_s = np.append(0, np.cumsum(is_speech))[[cut.hop for cut in cuts]] * recording.hop_s
    chosen = best_clips(
        position, np.array([cut.price for cut in cuts]), speech_s,
        shortest=limits.shortest, longest=limits.longest, preferred=limits.preferred,
    )

    clips, drops, end, behind = [], [], 0, 0    # up to the sample `end`, the cut `behind`, all is accounted for
    for first, last in chosen:
        if cuts[first].right > end:
            drops.append(dropped(end, cuts[first].right, speech_s[first] - speech_s[behind]))
        removed = [cut for cut in cuts[first + 1 : last] if cut.right > cut.left]
        drops += [Drop(cut.left, cut.right, 0.0, "pause shortened") for cut in removed]
        edges = [cuts[first].right, *(x for cut in removed for x in (cut.left, cut.right)), cuts[last].left]
        floor = np.percentile(recording.levels[cuts[first].hop : cuts[last].hop], 10)
        forced = {(0, 0): "", (1, 0): "start", (0, 1): "end", (1, 1): "both"}[cuts[first].inside, cuts[last].inside]
        pieces = list(zip(edges[::2], edges[1::2], strict=True))
        clips.append(Clip(pieces, speech_s[last] - speech_s[first], float(floor), forced))
        end, behind = cuts[last].left, last
    if recording.length > end:
        drops.append(dropped(end, recording.length, speech_s[-1] - speech_s[behind]))
    return Plan(clips, drops)


def dropped(start: int, end: int, speech_s: float) -> Drop:
    return Drop(start, end, speech_s, "speech that fits no clip" if speech_s > 0 else "pause")


def find_pauses(recording: Hops, threshold_db: float, min_pause_s: float) -> list[tuple[int, int]]:
    """Hops from and to: quiet for min_pause_s, clicks or no, and whatever is quiet at either end of the recording."""
    loud = recording.levels > threshold_db
    for start, end in runs(loud):
        if (end - start) * recording.hop_s <= CLICK_S + 1e-9:
            loud[start:end] = False
    long = round(min_pause_s / recording.hop_s)
    return [(a, b) for a, b in runs(~loud) if b - a >= long or a == 0 or b == len(loud)]


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """The runs of True in a mask. [L] -> their starts and ends"""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def pause_cuts(recording: Hops, pauses: list, threshold: Threshold, max_pause_s: float) -> list[Cut]:
    """One for every pause, one at either end of the recording. A pause longer than max_pause_s loses its middle; a
    shorter one is cut where it is deepest, though not near the speech around it."""
    levels, places, n = recording.levels, recording.places.tolist(), len(recording.levels)
    longest = max_pause_s / recording.hop_s
    side = int((longest - 1) / 2)   # hops kept on either side of what goes
    start, end = Cut(0, 0, 0, 0.0, False), Cut(recording.length, recording.length, n, 0.0, False)
    cuts = []
    for a, b in pauses:
        if a == 0:
            start = start._replace(right=places[b - side] if b > side else 0)
        elif b == n:
            end = end._replace(left=places[a + side] if b - a > side else recording.length)
        else:
            quarter = (b - a) // 4
            deepest = a + quarter + int(levels[a + quarter : b - quarter].argmin())
            depth = (threshold.level - levels[deepest]) / max(threshold.level - threshold.background, 1e-9)
            price = 1 - min(1, (b - a) / longest) * min(1, depth)
            left, right = (a + side, b - side) if b - a > longest else (deepest, deepest)
            cuts.append(Cut(places[left], places[right], deepest, price, False))
    return [start, *cuts, end]


def dips(recording: Hops, is_speech: np.ndarray, threshold: Threshold) -> list[Cut]:
    """The quietest hop of every half second, where it is speech: the last resort."""
    window = round(DIP_EVERY_S / recording.hop_s)
    levels = np.where(is_speech, recording.levels, np.inf)
    levels = np.pad(levels, (0, -len(levels) % window), constant_values=np.inf).reshape(-1, window)
    hops = np.arange(len(levels)) * window + levels.argmin(axis=1)
    above = (levels.min(axis=1) - threshold.level) / max(threshold.speech - threshold.level, 1e-9)
    cuts = []
    for hop, x in zip(hops.tolist(), above.tolist(), strict=True):
        if x < np.inf:  # else all of the half second is pause
            place = int(recording.places[hop])
            cuts.append(Cut(place, place, hop, INSIDE * (1 + min(1, max(0, x))), True))
    return cuts


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


def joined(read: Callable[[int, int], np.ndarray], pieces: Sequence[tuple[int, int]], rate: int) -> np.ndarray:
    """Returns the pieces of a recording, one behind the other, cross-faded over FADE_S where they meet.

    read(start, n) -> the n samples of the recording from `start` on, [n, channels]; behind its end zeros
    pieces: where each starts and ends, in samples; rate: Hz
    -> [T, channels], as long as the pieces together
    """
    fade, out = round(FADE_S * rate), None
    for start, end in pieces:
        piece = read(start, end - start + fade)
        out = piece if out is None else cross_fade(out, piece, fade)
    return out[: sum(end - start for start, end in pieces)]


def cross_fade(head: np.ndarray, tail: np.ndarray, n: int) -> np.ndarray:
    """The last n samples of the one fall while the first n of the other rise, the sum of both gains one."""
    rise = (0.5 - 0.5 * np.cos(np.pi * (np.arange(n) + 0.5) / n)).astype(head.dtype)[:, None]
    return np.concatenate([head[:-n], head[-n:] * (1 - rise) + tail[:n] * rise, tail[n:]])


# ---------------------------------------------------------------------------------------------------------------------
# slices.tsv: what was cut from which recording, so that nothing is cut twice and nothing is lost
#
# Clips are written to a staging folder; then the table that names them replaces the old one; then they are moved beside
# it. A run that is killed before the middle step has done nothing; what was killed behind it, the next run finishes.

TABLE = "slices.tsv"
STAGING = ".slicing"

COLUMNS = (
    "clip",             # empty: what no clip has
    "source",           # the recording
    "start_s",          # in the recording
    "end_s",
    "seconds",          # of the clip, or of what was left out; together the whole recording
    "peak_db",          # dBFS
    "rms_db",
    "noise_floor_db",   # exceeded 90 % of the time
    "speech_share",
    "forced",           # start, end, both: cut inside speech, for want of a pause
    "reason",           # why it was left out
    "fingerprint",      # of the recording's file
    "settings",         # a digest of the SlicerArgs
)


def read_table(out_dir: Path) -> list[dict]:
    """Returns the rows of slices.tsv; [] where there is none. Raises UserError where it is another table."""
    try:
        return tables.read(out_dir / TABLE, COLUMNS)
    except UserError as e:
        raise UserError(f"{e}, or choose another out_dir") from None


def save(out_dir: Path, rows: list[dict]):
    """The table, then the clips that it names."""
    if rows:
        tables.write(out_dir / TABLE, COLUMNS, rows)
    publish(out_dir, rows)


def publish(out_dir: Path, rows: list[dict]):
    """Move what waits in the staging folder beside the table that names it. What no table names is a killed run's."""
    named = {row["clip"] for row in rows}
    for path in (out_dir / STAGING).glob("*"):
        if path.name in named:
            replace(path, out_dir / path.name)
    shutil.rmtree(out_dir / STAGING, ignore_errors=True)


def number(sources: list[Path], rows: list[dict], out_dir: Path) -> list[int]:
    """n of src_<n>_<k> for every source: that of its own name where it is free, else the next that is."""
    names = [path.name for path in out_dir.glob("src_*")] + [row["clip"] for row in rows]
    taken = {int(found[1]) for name in names if (found := re.match(r"src_(\d+)", name))}
    numbers: dict[Path, int] = {}
    for path in sources:
        found = re.fullmatch(r"src_(\d+)", path.stem)
        if found and (n := int(found[1])) not in taken:
            numbers[path] = n
            taken.add(n)
    free = (n for n in count() if n not in taken)
    return [numbers[path] if path in numbers else next(free) for path in sources]
