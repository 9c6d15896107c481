"""What lies in the folders: recordings, checked, and which part of them is for training and which for validation.

args: dataset.py's MixtureArgs
"""

import os
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from extractor import UserError, audio
from extractor.cache import Index, unpack
from extractor.levels import QUIET_DB, level_db
from extractor.profile import profile, unlike

ROUND_TABLE = "bootstrap.tsv"  # in a folder of clips that bootstrap.py extracted and accepted

Before = Mapping[str, tuple[float, float]]  # clip -> its length and what of it an earlier run held out, in seconds


class Source(NamedTuple):
    """The part of a recording that one split may use, in samples at the net's rate."""

    recording: audio.Recording
    start: int
    length: int


class Material(NamedTuple):
    """The recordings that were found and checked, by what they are for."""

    clean: list[audio.Recording]
    games: list[audio.Recording]   # all dirty scenes but the voices
    voices: list[audio.Recording]

    def held_out(self, args, before: Before | None = None, *, by_speaker: bool = False) -> dict[Path, float]:
        """Returns the seconds for validation at the end of each clean clip that has some; extracted ones have none.
        by_speaker: each folder of args.clean is a speaker, who has some. Raises UserError where all are extracted."""
        held = {}
        for everything in self.by_speaker(args).values() if by_speaker else [self.clean]:
            clips = [r for r in everything if not is_extracted(r.path)]
            if everything and not clips:
                why = "has extracted clips alone; validation needs some that a person recorded"
                raise UserError(why, everything[0].path.parent)
            held |= held_out([r.path for r in clips], [r.seconds for r in clips], args, before)
        return held

    def by_speaker(self, args) -> dict[Path, list[audio.Recording]]:
        """Returns the clean recordings by folder of args.clean. Raises UserError where one is empty or named twice."""
        folders = {Path(name): [] for name in args.clean}
        if twice := [name for i, name in enumerate(args.clean) if Path(name) in map(Path, args.clean[:i])]:
            raise UserError("named twice in MixtureArgs.clean; each clean folder is a speaker here", Path(twice[0]))
        for recording in self.clean:
            folders[given(recording.path, args.clean)].append(recording)
        if empty := [name for name, recordings in folders.items() if not recordings]:
            raise UserError("no recordings of this speaker; each clean folder is a speaker here", empty[0])
        return folders

    def split(self, split: str, args, sample_rate: int, held: Mapping[Path, float] | None = None) -> list[list[Source]]:
        """Returns the clean, game and voice sources of "train", or of "valid": recordings' ends, or all of them."""
        sources = [parts(self.clean, split, self.held_out(args) if held is None else held, sample_rate)]
        for recordings in (self.games, self.voices):
            ends = held_of_dirty([r.path for r in recordings], [r.seconds for r in recordings], args)
            whole = [Source(r, 0, r.length(sample_rate)) for r in recordings]  # a few samples are for both
            sources.append(parts(recordings, split, ends, sample_rate) or whole)
        return sources


def parts(
    recordings: Sequence[audio.Recording], split: str, held: Mapping[Path, float], sample_rate: int
) -> list[Source]:
    """Returns the sources of one split, of the recordings that have a part in it."""
    sources = []
    for recording in recordings:
        length = recording.length(sample_rate)
        border = round((1 - held.get(recording.path, 0.0) / recording.seconds) * length)
        start, end = (0, border) if split == "train" else (border, length)
        if start < end:
            sources.append(Source(recording, start, end - start))
    return sources


def is_extracted(clip: Path) -> bool:
    """Says whether a clip was extracted by a net, and promoted by bootstrap.py."""
    return (clip.parent / ROUND_TABLE).exists()


# --- what is held out ------------------------------------------------------------------------------------------------

def recording_of(clip: Path) -> tuple[Path, str]:
    """Returns folder and name of a clip's recording: `src_3_0.wav, src_3_1.wav` were cut from `src_3`."""
    return clip.parent, re.sub(r"^(src_\d+)_\d+$", r"\1", clip.stem)


def held_out(clips: list[Path], seconds: list[float], args, before: Before | None = None) -> dict[Path, float]:
    """Returns the seconds for validation at the end of each clip that has some. Recordings are drawn by their names and
    held out, all their clips, until these make up `valid_share`. Of a recording that would make it more than thrice as
    much, or leave none for training, the end is held out.

    `before` has the length of each clip that an earlier run knew, and the seconds that it held out. These stay as they
    were, so that no net is validated on what it was trained on; more is drawn from other recordings alone. Where that
    would hold out nothing, more than thrice the share, or all, the earlier run is forgotten."""
    lengths = dict(zip(clips, seconds, strict=True))
    held = remembered(lengths, before or {})
    old = {recording_of(clip) for clip in held}
    recordings: dict[tuple[Path, str], dict[Path, float]] = {}
    for clip, length in lengths.items():
        recordings.setdefault(recording_of(clip), {})[clip] = length
    order, enough = [name for name in recordings if name not in old], args.valid_share * sum(seconds)
    of_before = sum(held.values())
    if of_before > min(3 * enough, 0.99 * sum(seconds)) or not (of_before or order):
        held, order = {}, [*recordings]
    # a recording has the same place in this draw whatever others there are
    order.sort(key=lambda name: sha256(os.fsencode(f"{args.seed}/{name[0].name}/{name[1]}")).digest())
    for name in order:
        found, missing = recordings[name], enough - sum(held.values())
        if missing <= 0:
            break
        if name != order[-1] and sum(found.values()) <= missing + 2 * enough:
            held |= found
            continue
        for clip in sorted(found, key=lambda clip: (len(clip.stem), clip.stem), reverse=True):  # src_0_10, src_0_9 ...
            held[clip] = max(0.0, min(found[clip], missing))
            missing -= found[clip]
    return {clip: length for clip, length in held.items() if length}


def remembered(lengths: Mapping[Path, float], before: Before) -> dict[Path, float]:
    """Returns what an earlier run held out of each clip that it knew, by path; or, where there is nothing at that path
    now, by name and length. Where a clip has another length by now, its recording was cut anew: nothing is known."""
    there = {os.path.abspath(path): known for path, known in before.items()}
    moved = {(Path(path).name, length): held for path, (length, held) in there.items() if not os.path.exists(path)}
    found, cut_anew = {}, set()
    for clip, length in lengths.items():
        then, held = there.get(os.path.abspath(clip)) or (length, moved.get((clip.name, length)))
        if then != length:
            cut_anew.add(recording_of(clip))
        elif held is not None:
            found[clip] = held
    return {clip: held for clip, held in found.items() if recording_of(clip) not in cut_anew}


def held_of_dirty(paths: list[Path], seconds: list[float], args) -> dict[Path, float]:
    """Returns the seconds for validation at the end of each dirty recording: a share of each. Where a share would be
    shorter than an item, recordings are drawn as clean clips are."""
    lengths = dict(zip(paths, seconds, strict=True))
    short = {path: length for path, length in lengths.items() if args.valid_share * length < args.segment_s}
    ends = {path: args.valid_share * length for path, length in lengths.items() if path not in short}
    return ends | held_out(list(short), list(short.values()), args)


# --- finding and checking them ---------------------------------------------------------------------------------------

def find_material(args, *, index: str | Path = "", progress: bool = False) -> Material:
    """Finds and checks all recordings; with the name of an index, only those that are new since it was made. Raises
    UserError: none found, unreadable or silent ones (named), the target speaker among the dirty ones."""
    clean_paths, dirty_paths = recordings_in(args.clean, "clean"), recordings_in(args.dirty, "dirty")
    refuse_target(args, clean_paths, dirty_paths)
    problems, clean, dirty, known = [], [], [], Index(index)
    try:
        for paths, found, check in ((clean_paths, clean, check_clean), (dirty_paths, dirty, check_dirty)):
            for path in tqdm(paths, "checking", unit=" files", leave=False, disable=not progress):
                try:
                    found.append(known.look(path, check, args.audio_stream))
                except UserError as e:
                    problems.append(str(e))
    finally:  # what was looked at is known, though it be stopped
        known.save()
    if problems:
        named = "; ".join([*problems[:5], *([f"and {len(problems) - 5} more"] if len(problems) > 5 else [])])
        raise UserError(f"recordings that cannot be used ({len(problems)}), move them away: {named}")
    games, voices = ([r for r in dirty if in_voices(r.path, args) == wanted] for wanted in (False, True))
    return Material(clean, games, voices)


def in_voices(path: Path, args) -> bool:
    """Says whether a recording, or the given folder that it lies in, is in a scene of voices."""
    return args.voices in path.relative_to(given(path, args.dirty).parent).parts


def given(path: Path, names: Sequence[str]) -> Path:
    """Returns the folder, among those named, that a recording lies in."""
    return next(Path(name) for name in reversed(names) if path.is_relative_to(name))


def recordings_in(names: tuple[str, ...], kind: str) -> list[Path]:
    if not names:
        raise UserError(f"MixtureArgs.{kind} = (): name a folder of {kind} recordings")
    if missing := [name for name in names if not name or not Path(name).is_dir()]:
        raise UserError(f"there is no such folder of {kind} recordings", missing[0])
    found = {path for name in names for path in audio.find(name)}
    if not found:
        raise UserError(f"{', '.join(names)}: no {kind} recordings; put {', '.join(audio.SUFFIXES[:4])} files there")
    return sorted(found)


def speakers(args, clean: list[Path]) -> set[str]:
    """Names the speakers, by the folders below clean/, or above it; by the given folders where none is clean/."""
    named = {Path(name).resolve().name for name in args.clean if "clean" not in Path(name).parts}
    for path in clean:
        if "clean" in (parts := path.parts[:-1]):
            at = parts.index("clean") + 1
            named.add(parts[at] if at < len(parts) else Path(*parts[:at]).resolve().parent.name)
    return named


def unlike_captures(args, clean: Sequence[audio.Recording]) -> list[str]:
    """Returns a sentence for every way in which recordings to extract differ from the clean ones. They are those of
    `args.captures`, or, where that is empty, of dirty/<speaker> beside the dirty folders, if there is one."""
    folders = args.captures or tuple(
        str(folder) for name in sorted(speakers(args, [r.path for r in clean]))
        for folder in dict.fromkeys(Path(dirty).parent / name for dirty in args.dirty) if folder.is_dir()
    )
    if not folders or not clean:
        return []
    own, sentences = profile(clean), []
    for path in (path for folder in folders for path in audio.find(folder)):
        try:
            capture = profile([audio.probe(path, args.audio_stream)])
            sentences += [f"{path}: {difference}" for difference in unlike(capture, own)]
        except UserError as e:  # infer.py will name it, too
            sentences.append(str(e))
    return sentences


def refuse_target(args, clean: list[Path], dirty: list[Path]):
    """Raises UserError for what has the target in it, such as dirty/<speaker>/ and voices/<speaker>.wav: as
    interference it would teach the net to remove the target."""
    targets = speakers(args, clean)
    real = {path: Path(os.path.realpath(path)) for path in clean + dirty}
    try:
        top = Path(os.path.commonpath([path.parent for path in real.values()]))
    except ValueError:  # on two drives
        top = Path(os.sep)
    same = {real[path] for path in clean}
    for path in dirty:
        # where they share no folder, a folder above all the recordings may have the speaker's name
        below = path.relative_to(given(path, args.dirty).parent) if top == top.parent else real[path].relative_to(top)
        folders, files = {*below.parts[:-1]} & targets, {path.stem, below.stem} & targets
        if folders or files or real[path] in same:
            what = "recording" if files and not folders else "folder"
            whose = ", ".join(folders or files) or "clean files"
            remedy = "it is for infer.py, never training noise: leave it out of MixtureArgs.dirty"
            where = path if what == "recording" else path.parent
            raise UserError(f"a dirty {what} that holds the target speaker ({whose}); {remedy}", where)


def check_clean(path: Path, audio_stream: int = 0) -> audio.Recording:
    """Reads all of a clean recording, since it is looked at once and used often."""
    recording = audio.probe(path, audio_stream)
    n, rate = recording.frames, recording.rate
    with audio.kept_open(recording):
        blocks = (audio.read(recording, at, min(10 * rate, n - at), rate) for at in range(0, n, 10 * rate))
        if max(map(level_db, blocks)) <= QUIET_DB:
            raise UserError(f"silent, nowhere above {QUIET_DB} dBFS", path)
    return recording


def check_dirty(path: Path, audio_stream: int = 0) -> audio.Recording:
    """Reads the start and the end: there may be days of it. What else is broken shows when it is drawn."""
    recording = audio.probe(path, audio_stream)
    second = min(recording.frames, recording.rate)
    for start in (0, recording.frames - second):
        audio.read(recording, start, second, recording.rate)
    return recording


def unpacked(material: Material, folder: Path, max_bytes: float, *, progress: bool) -> Material:
    """Decodes the compressed recordings, once for all runs, so that training need not wait for them."""
    everything = iter(unpack([r for kind in material for r in kind], folder, max_bytes, progress=progress))
    material = Material(*([next(everything) for _ in kind] for kind in material))
    if decoded := [r for kind in material for r in kind if r.unpacked]:
        size = sum(r.unpacked.stat().st_size for r in decoded) / 1e9
        print(f"{len(decoded)} compressed recordings lie decoded in {folder}, {size:.1f} GB; delete it at will")
    return material
