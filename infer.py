"""Extract the speaker from recordings of any length, rate and format.

    python infer.py                                     # the InferArgs at the foot of this file
    python infer.py --checkpoint runs/alice/best.pt --inputs "datasets/dirty/alice/**/*" --out-dir extracted/alice

What comes out is 44.1 kHz mono 32-bit float WAV (the rate is the checkpoint's), as long and as loud as what went in.
Files that are there already are left alone, unless their recording is newer, so that a run that was stopped goes on
where it was. index.html beside them is the page to look at and listen to: of long recordings, the part where most was
extracted.
"""

import math
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import models
from extractor import UserError, audio, checkpoint, page, provenance, tables
from extractor.chunked import extract_long
from extractor.command import command_line
from extractor.device import pick_device
from extractor.files import alone_in
from extractor.levels import (
    HOP_S,
    QUIET_DB,
    background_and_speech,
    channel_of,
    hop_of,
    hop_powers,
    level_db,
    smooth_levels,
    speech_threshold,
    to_db,
)
from extractor.profile import NARROWER, WIDER, profile

CLAIM = "checkpoint.json"  # beside the estimates: which net they are of
LONG_S = 20  # a recording in which the speaker should be heard somewhere
NOWHERE_DB = -12  # of its level the most that is kept of any second where the speaker is nowhere
LOOKS = 30  # seconds of a recording that tell whether its channels would cancel


@dataclass(frozen=True)
class InferArgs:
    checkpoint: str = "runs/speaker/best.pt"
    inputs: str = "datasets/dirty/speaker/**/*"  # a glob, a folder or a file
    out_dir: str = "extracted/speaker"           # the tree below the glob's first star is kept
    overwrite: bool = False
    page_s: float = 60.0      # of each recording on the page out_dir/index.html, to look at and listen to; 0: no page
    chunk_s: float = 10.0     # kept of each piece; memory grows with it
    context_s: float = 1.0    # seen on both sides of it, then thrown away
    fade_s: float = 0.1       # cross-fade from piece to piece, inside the context
    device: str = "auto"      # auto, cpu, cuda, cuda:1

    def __post_init__(self):
        if not 0 <= self.page_s < math.inf:
            raise UserError(f"InferArgs.page_s = {self.page_s}: give the seconds for the page, or 0 for no page")
        lengths = self.chunk_s, self.context_s, self.fade_s
        if not all(map(math.isfinite, lengths)) or not 0 <= self.fade_s <= min(lengths) or self.chunk_s < 0.1:
            raise UserError(
                f"InferArgs: chunk_s = {self.chunk_s}, context_s = {self.context_s}, fade_s = {self.fade_s}: "
                "the fade must fit in the context and in the chunk, and the chunk be 0.1 s or more, of a finite length"
            )


def main(args: InferArgs) -> list[str]:
    """Extract every input. Returns a sentence for each file that could not be done."""
    device = pick_device(args.device)
    net, family = models.load(args.checkpoint)
    net.to(device)
    outputs = plan(args)
    with alone_in(args.out_dir):
        return extract_all(outputs, net, family, args, device)


def extract_all(outputs: dict[Path, Path], net, family, args: InferArgs, device: torch.device) -> list[str]:
    """Input -> output, all that are not there yet, and the page. Returns as main."""
    claim(args, outputs)
    todo = [(source, out) for source, out in outputs.items() if args.overwrite or not done(source, out)]
    print(f"{len(outputs)} recordings, {len(outputs) - len(todo)} done before; extracting on {device}")

    failures = []
    bar = tqdm(todo, unit="file", dynamic_ncols=True)
    for source, out in bar:
        bar.set_postfix_str(source.name)
        try:
            extract_file(source, out, net, family, args, device)
        except UserError as e:
            failures.append(str(e))
            tqdm.write(f"passed over: {e}", file=sys.stderr)
    if failures:
        print(f"{len(failures)} of {len(todo)} recordings failed:", *failures, sep="\n  ", file=sys.stderr)
    if args.page_s:
        show(outputs, args, net.args.sample_rate, failures)
    return failures


def done(source: Path, out: Path) -> bool:
    """Whether the estimate is there, of the recording as it is: not of one made anew since, or whole only since."""
    if not out.exists() or out.stat().st_mtime_ns < source.stat().st_mtime_ns:
        return False
    try:
        estimate = audio.probe(out)
        return estimate.frames == audio.probe(source).length(estimate.rate)
    except UserError:  # damaged, either of them
        return False


def claim(args: InferArgs, outputs: dict[Path, Path]):
    """Note beside the estimates which checkpoint they are of. Raises UserError where some of these outputs are of
    another one, or the folder has scores."""
    folder = Path(args.out_dir)
    if tables.read_json(folder / "scores.json").get("summary"):  # the page's own has none
        raise UserError(f"{args.out_dir}: holds what evaluate.py found, which the page would replace; choose another")
    path, now = folder / CLAIM, checkpoint.fingerprint(args.checkpoint)
    before = tables.read_json(path)
    others = before.get("others", {})  # estimates of other nets: name -> fingerprint
    if (last := before.get("sha256", now)) != now:
        others = dict.fromkeys((str(p.relative_to(folder)) for p in audio.find(folder)), last) | others
    names = {str(out.relative_to(folder)): out for out in outputs.values()}
    stale = [out for name, out in names.items() if others.get(name, now) != now and out.exists()]
    if stale and not args.overwrite:
        raise UserError(
            f"{args.out_dir}: has estimates of another net ({before.get('path')}, or what that was before); choose "
            "another out_dir, or overwrite them with --overwrite True"
        )
    for out in stale:  # whatever is there afterwards is of this net, even after a kill
        out.unlink(missing_ok=True)
    others = {name: of for name, of in others.items() if of != now and name not in names}
    tables.write_json(path, {"path": args.checkpoint, "sha256": now} | ({"others": others} if others else {}))


def extract_file(source: Path, out: Path, net, family, args: InferArgs, device: torch.device):
    """One recording, chunk by chunk from disk to disk."""
    sample_rate = net.args.sample_rate
    recording = heard(source)
    if recording.cut_off:
        tqdm.write(f"{source}: cut off at its end; the {recording.seconds:.1f} s that are there are extracted")
    if told := net.bandwidth_hz and outside(recording, net.bandwidth_hz):
        tqdm.write(told)
    if recording.channel is not None:
        alone = f"channel {recording.channel + 1} alone is extracted"
        tqdm.write(f"{source}: its channels would cancel each other; {alone}")

    most_db = -math.inf  # of any second, over its level

    @torch.inference_mode()
    def extract(start: int, n: int) -> np.ndarray:
        nonlocal most_db
        mixture = audio.read(recording, start, n, sample_rate)
        try:
            estimate = family.extract(net, torch.from_numpy(mixture)[None].to(device), start)[0].cpu().numpy()
        except RuntimeError as e:
            if not isinstance(e, torch.OutOfMemoryError) and "allocate memory" not in str(e):  # the latter of a CPU
                raise
            less = f"give InferArgs.chunk_s less than {args.chunk_s:g}"
            raise UserError(f"{source}: a chunk does not fit into the memory of {device}: {less}") from None
        if not np.isfinite(estimate).all():
            first, last = start / sample_rate, (start + n) / sample_rate
            raise UserError(
                f"{source}: the estimate of {first:.1f} to {last:.1f} s is not finite (the recording's peak there is "
                f"{np.abs(mixture).max():.2g}); a damaged recording, or a net that did not learn"
            )
        most_db = max(most_db, most_kept_db(estimate, mixture, sample_rate))
        return estimate

    chunk, context, fade = (round(s * sample_rate) for s in (args.chunk_s, args.context_s, args.fade_s))
    n_samples = recording.length(sample_rate)
    blocks = extract_long(extract, n_samples, chunk=chunk, context=context, fade=fade)
    with audio.kept_open(recording):
        audio.write(out, blocks, n_samples, sample_rate)
    if most_db < NOWHERE_DB and recording.seconds >= LONG_S:
        tqdm.write(f"{source}: the net hears its speaker nowhere in it; is it the right checkpoint for this recording?")


def most_kept_db(estimate: np.ndarray, mixture: np.ndarray, sample_rate: int) -> float:
    """Level of the estimate over that of the mixture, in the second of which most was kept; -inf where all is silence.
    [T], [T] -> dB"""
    seconds = [slice(start, start + sample_rate) for start in range(0, len(mixture), sample_rate)]
    levels = [(level_db(estimate[s]), level_db(mixture[s])) for s in seconds]
    return max((kept - whole for kept, whole in levels if whole > QUIET_DB), default=-math.inf)


def outside(recording: audio.Recording, bandwidth_hz: tuple[float, float]) -> str:
    """A sentence where a recording reaches less high than the mixtures that the net was trained on, or higher."""
    ends, (least, most) = profile([recording]).bandwidth_hz, bandwidth_hz
    if NARROWER * least <= ends <= WIDER * most:
        return ""
    what = "the speaker may be lost" if ends < least else "the speaker's sound above that is taken away"
    trained = f"{least / 1000:.1f} to {most / 1000:.1f}" if least < most else f"{most / 1000:.1f}"
    return f"{recording.path}: its sound reaches {ends / 1000:.1f} kHz, that in training {trained} kHz; {what}"


def heard(source: Path) -> audio.Recording:
    """As what it is extracted: the mean of its channels, or the loudest where that would cancel, by up to LOOKS seconds
    spread over all of it."""
    recording = audio.probe(source)
    if recording.channels == 1:
        return recording
    products, second = 0.0, min(recording.rate, recording.frames)
    with audio.kept_open(recording):
        for start in np.linspace(0, recording.frames - second, min(LOOKS, 1 + int(recording.seconds)), dtype=int):
            x = audio.read(recording, int(start), second, recording.rate, mono=False).astype(np.float64)
            products += x.T @ x
    return replace(recording, channel=channel_of(products))


def show(outputs: dict[Path, Path], args: InferArgs, sample_rate: int, failures: list[str]):
    """The page of everything that is in out_dir by now. Of files that have not changed it keeps what it knows."""
    folder = Path(args.out_dir)
    name = checkpoint.name_of(args.checkpoint)
    if name in ("", *page.SIGNALS):
        name = "estimate"
    known = shown_before(folder, name)
    for other in tables.read_json(folder / CLAIM).get("others", {}):  # of another net
        known.pop(other, None)
    sources = {str(out.relative_to(folder)): source for source, out in outputs.items()}
    items, scores = [], {page.MIXTURE: [], name: []}
    for path in sorted({*known, *sources}):
        if not (folder / path).exists():
            continue
        state = {"name": path, "changed": (folder / path).stat().st_mtime_ns, "page_s": args.page_s}
        item, rows = known.get(path, ({}, ()))
        if path in sources and not (state.items() <= item.items() and (folder / item["sound"]).exists()):
            try:
                item, rows = look(sources[path], folder / path, state, folder, name)
            except UserError as e:
                tqdm.write(f"not on the page: {e}", file=sys.stderr)
                continue
        items.append(item)
        for row, of in zip(rows, scores.values(), strict=True):
            of.append(row)
    if not items:
        return
    report = provenance.of(args, folder) | {
        "systems": [{"name": page.MIXTURE}, {"name": name, "source": args.checkpoint}],
        "sample_rate": sample_rate, "items": items, "scores": scores, "failures": failures,
    }
    tables.write_json(folder / "scores.json", report)
    page.write(folder, report)
    print(f"to look at and listen to: {folder / 'index.html'}")


def shown_before(folder: Path, name: str) -> dict[str, tuple[dict, list[dict]]]:
    """Name of the file -> its item on the page that is there, and its rows. Empty where that is of another net."""
    before = tables.read_json(folder / "scores.json")
    try:
        rows = (before["scores"][system] for system in (page.MIXTURE, name))
        return {item["name"]: (item, rows) for item, *rows in zip(before["items"], *rows, strict=True)}
    except (KeyError, TypeError, ValueError):
        return {}


def look(source: Path, out: Path, state: dict, folder: Path, name: str) -> tuple[dict, list[dict]]:
    """An item of the page, what is measured of its recording and of the estimate, and the sound of its excerpt."""
    mixture, estimate = heard(source), audio.probe(out)
    rate, n_samples = estimate.rate, estimate.frames
    hop = hop_of(rate)
    powers = {mixture: [], estimate: []}
    with audio.kept_open(mixture), audio.kept_open(estimate):
        for start in range(0, n_samples, 1000 * hop):
            for recording, found in powers.items():
                x = audio.read(recording, start, min(1000 * hop, n_samples - start), rate)
                found.append(hop_powers(x[:, None], hop)[0])
    before, after = (np.concatenate(found) for found in powers.values())
    wide = min(len(after), max(1, round(state["page_s"] / HOP_S)))
    total = np.append(0, np.cumsum(after, dtype=np.float64))
    start = int(np.argmax(total[wide:] - total[:-wide])) * hop
    n = min(wide * hop, n_samples - start)
    levels = smooth_levels(after)
    speech = background_and_speech(levels)
    speech_s = HOP_S * float((levels > speech_threshold(*speech)).sum()) if speech else 0.0
    level_in, level_out = (float(to_db(powers.mean())) for powers in (before, after))
    item = state | {"seconds": round(estimate.seconds, 3)}
    if n < n_samples:
        item |= {"start_s": start / rate, "end_s": (start + n) / rate}
    signals = {page.MIXTURE: audio.read(mixture, start, n, rate), name: audio.read(estimate, start, n, rate)}
    item["sound"] = page.add_sound(folder, signals, rate)
    return item, [{"level_in": level_in}, {"level_change": level_out - level_in, "speech_s": speech_s}]


def plan(args: InferArgs) -> dict[Path, Path]:
    """Input -> output. The output tree mirrors the input's from the first folder with a star on; where two inputs
    differ in their suffix alone, the outputs keep it."""
    (root, found), out_dir = audio.inputs(args.inputs, args.out_dir), Path(args.out_dir)
    stems = Counter([*found, *(p.with_suffix("") for p in found)])  # a.flac, a.wav and a.flac.wav: three outputs
    outputs = {}
    for p in found:
        name = p.stem if stems[p.with_suffix("")] == 1 else p.name
        outputs[p] = out_dir / p.relative_to(root).with_name(name + ".wav")
    if same := {out.resolve() for out in outputs.values()} & {p.resolve() for p in found}:
        raise UserError(f"{min(same)}: would be written over by an estimate; choose another out_dir")
    return outputs


if __name__ == "__main__":
    sys.exit(bool(main(command_line(InferArgs(
        checkpoint="runs/speaker/best.pt",
        inputs="datasets/dirty/speaker/**/*",
        out_dir="extracted/speaker",
    )))))
