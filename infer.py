"""Extract the speaker from recordings and films of any length, rate and format.

    python infer.py                                     # the InferArgs at the foot of this file
    python infer.py --checkpoint runs/alice/best.pt --inputs "datasets/dirty/alice/**/*" --out-dir extracted/alice

What comes out is 44.1 kHz mono 32-bit float WAV (the rate is the checkpoint's), as long and as loud as what went in.
Files that are there already are left alone, unless their recording has changed, so that a run that was stopped goes on
where it was. index.html beside them is the page to look at and listen to: of long recordings, the part where most was
extracted.
"""

import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import models
from extractor import UserError, audio, checkpoint, page, script, tables
from extractor.chunked import extract_long, pieces_at_once
from extractor.device import pick_device
from extractor.files import content_hash, folder_lock
from extractor.levels import QUIET_DB, level_db
from extractor.profile import NARROWER, WIDER, profile
from extractor.script import command_line

CLAIM = "checkpoint.json"  # beside the estimates: which net and which recordings they are of
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}{postfix}]"
SAVE_EVERY_S = 2  # of work, what was done; a kill loses no more of it
LONG_S = 20       # a recording in which the speaker should be heard somewhere
NOWHERE_DB = -12  # of its level the most that is kept of any second where the speaker is nowhere


@dataclass(frozen=True)
class InferArgs:
    checkpoint: str = "runs/speaker/best.pt"
    inputs: str = "datasets/dirty/speaker/**/*"  # a glob, a folder or a file
    out_dir: str = "extracted/speaker"           # the tree below the glob's first star is kept
    overwrite: bool = False
    audio_stream: int = 0     # the one to extract from where a film has several
    page_s: float = 60.0      # of each recording on the page out_dir/index.html, to look at and listen to; 0: no page
    chunk_s: float = 10.0     # kept of each piece; memory grows with it, and on a CPU with the threads, up to eight
    context_s: float = 1.0    # seen on both sides of it, then thrown away
    fade_s: float = 0.1       # cross-fade from piece to piece, inside the context
    device: str = "auto"      # auto, cpu, cuda, cuda:1

    def __post_init__(self):
        if not 0 <= self.page_s < math.inf:
            raise UserError(f"InferArgs.page_s = {self.page_s}: give the seconds for the page, or 0 for no page")
        lengths = self.chunk_s, self.context_s, self.fade_s
        if not all(map(math.isfinite, lengths)) or not 0 <= self.fade_s <= min(lengths) or self.chunk_s < 0.1:
            given = f"chunk_s = {self.chunk_s}, context_s = {self.context_s}, fade_s = {self.fade_s}"
            fade = "the fade must fit in the context and in the chunk"
            raise UserError(f"InferArgs: {given}: {fade}, and the chunk be 0.1 s or more, of a finite length")


def main(args: InferArgs) -> list[str]:
    """Extract every input. Returns a sentence for each file that could not be done."""
    device = pick_device(args.device)
    net, family = models.load(args.checkpoint)
    net.to(device)
    outputs = plan(args)
    with folder_lock(args.out_dir):
        return extract_all(outputs, net, family, args, device)


def extract_all(outputs: dict[Path, Path], net, family, args: InferArgs, device: torch.device) -> list[str]:
    """Input -> output, all that are not there yet, and the page. Returns as main."""
    noted = claim(args, outputs)
    sources = noted.setdefault("sources", {})   # name of the estimate -> what it was made of
    names = {out: out.relative_to(args.out_dir).as_posix() for out in outputs.values()}
    todo = {
        source: out for source, out in outputs.items()
        if args.overwrite or not done(source, out, sources.get(names[out]), args.audio_stream)
    }
    print(f"{len(outputs)} recordings, {len(outputs) - len(todo)} done before; extracting on {device}")

    failures, saved = [], time.monotonic()
    told = {source: audio.told_seconds(source) for source in todo}
    with tqdm(total=sum(told.values()), unit="s", dynamic_ncols=True, bar_format=BAR) as bar:
        for i, (source, out) in enumerate(todo.items()):
            due = bar.n + told[source]
            bar.set_description_str(f"{i + 1} of {len(todo)}: {source.name}")
            try:
                extract_file(source, out, net, family, args, device, bar)
                sources[names[out]] = made_of(source, out, args.audio_stream)
            except UserError as e:
                failures.append(str(e))
                tqdm.write(f"passed over: {e}", file=sys.stderr)
            bar.total += bar.n - due  # the recording is longer than its header says, or shorter
            bar.refresh()
            if time.monotonic() > saved + SAVE_EVERY_S or i == len(todo) - 1:
                tables.write_json(Path(args.out_dir) / CLAIM, noted)
                saved = time.monotonic()
    if failures:
        print(f"{len(failures)} of {len(todo)} recordings failed:", *failures, sep="\n  ", file=sys.stderr)
    if args.page_s:
        head = script.run_info(args, args.out_dir) | {"sample_rate": net.args.sample_rate, "failures": failures}
        page.show(outputs, head, args.out_dir, args.checkpoint, args.page_s, others=noted.get("others", {}))
    return failures


def made_of(source: Path, out: Path, audio_stream: int) -> dict:
    """What tells whether an estimate is complete, and of a recording as it is now."""
    return {"content": content_hash(source), "audio_stream": audio_stream, "frames": audio.probe(out).frames}


def done(source: Path, out: Path, noted: dict | None, audio_stream: int) -> bool:
    """Whether a complete estimate of the recording, as it is now, is there already. noted: what it was made of; where
    a run was killed before it noted that, its time and its length decide."""
    try:
        if noted:
            return noted == made_of(source, out, audio_stream)
        if out.stat().st_mtime_ns < source.stat().st_mtime_ns:
            return False
        estimate = audio.probe(out)
        return estimate.frames == audio.probe(source, audio_stream).length(estimate.rate)
    except (UserError, OSError):  # damaged or not there, either of them
        return False


def claim(args: InferArgs, outputs: dict[Path, Path]) -> dict:
    """Note beside the estimates which checkpoint they are of. -> all that is noted there. Raises UserError where some
    of these outputs are of another one, or the folder has scores."""
    folder = Path(args.out_dir)
    if tables.read_json(folder / "scores.json").get("summary"):  # the page's own has none
        raise UserError(f"{args.out_dir}: holds what evaluate.py found, which the page would replace; choose another")
    path, now = folder / CLAIM, checkpoint.sha256_of(args.checkpoint)
    before = tables.read_json(path)
    others = before.get("others", {})  # estimates of other nets: name -> fingerprint
    if (last := before.get("sha256", now)) != now:
        others = dict.fromkeys((str(p.relative_to(folder)) for p in audio.find(folder)), last) | others
    names = {str(out.relative_to(folder)): out for out in outputs.values()}
    stale = [out for name, out in names.items() if others.get(name, now) != now and out.exists()]
    if stale and not args.overwrite:
        other = f"has estimates of another net ({before.get('path')}, or what that was before)"
        raise UserError(f"{args.out_dir}: {other}; choose another out_dir, or overwrite them with --overwrite True")
    for out in stale:  # whatever is there afterwards is of this net, even after a kill
        out.unlink(missing_ok=True)
    others = {name: of for name, of in others.items() if of != now and name not in names}
    sources = before.get("sources", {}) if last == now else {}
    kept = {key: value for key, value in {"others": others, "sources": sources}.items() if value}
    noted = {"path": args.checkpoint, "sha256": now} | kept
    tables.write_json(path, noted)
    return noted


def extract_file(source: Path, out: Path, net, family, args: InferArgs, device: torch.device, bar: tqdm):
    """One recording, chunk by chunk from disk to disk. The bar goes on by its seconds."""
    sample_rate = net.args.sample_rate
    recording = audio.probe_mixture(source, args.audio_stream)
    for remark in recording.remarks:
        tqdm.write(f"{source}: {remark}")
    if recording.offset:
        tqdm.write(f"{source}: its constant offset of {recording.offset:+.2f} of full scale is taken away")
    if told := net.bandwidth_hz and outside(recording, net.bandwidth_hz):
        tqdm.write(told)
    if recording.channel is not None:
        alone = f"channel {recording.channel + 1} alone is extracted"
        tqdm.write(f"{source}: its channels would cancel each other; {alone}")

    kept_db = [-math.inf]  # of each piece, the most of any second over its level

    @torch.inference_mode()
    def extract(mixture: np.ndarray, start: int) -> np.ndarray:
        try:
            estimate = family.extract(net, torch.from_numpy(mixture)[None].to(device), start)[0].cpu().numpy()
        except RuntimeError as e:
            if not isinstance(e, torch.OutOfMemoryError) and "allocate memory" not in str(e):  # the latter of a CPU
                raise
            less = f"give InferArgs.chunk_s less than {args.chunk_s:g}"
            raise UserError(f"{source}: a chunk does not fit into the memory of {device}: {less}") from None
        if not np.isfinite(estimate).all():
            first, last = start / sample_rate, (start + len(mixture)) / sample_rate
            what = f"the estimate of {first:.1f} to {last:.1f} s is not finite"
            why = f"the recording's peak there is {np.abs(mixture).max():.2g}"
            raise UserError(f"{source}: {what} ({why}); a damaged recording, or a net that did not learn")
        kept_db.append(most_kept_db(estimate, mixture, sample_rate))
        return estimate

    chunk, context, fade = (round(s * sample_rate) for s in (args.chunk_s, args.context_s, args.fade_s))
    n_samples = recording.length(sample_rate)
    sizes = {"chunk": chunk, "context": context, "fade": fade, "at_once": pieces_at_once(device)}
    blocks = extract_long(partial(audio.read, recording, sample_rate=sample_rate), extract, n_samples, **sizes)
    with audio.kept_open(recording) as files:
        audio.write(out, counted(blocks, bar, sample_rate), n_samples, sample_rate)
        if damage := audio.damage(recording, files):
            tqdm.write(f"{source}: {damage}")
    if max(kept_db) < NOWHERE_DB and recording.seconds >= LONG_S:
        tqdm.write(f"{source}: the net hears its speaker nowhere in it; is it the right checkpoint for this recording?")


def counted(blocks: Iterable[np.ndarray], bar: tqdm, sample_rate: int) -> Iterator[np.ndarray]:
    """The blocks, while the bar says how far it is, and how many times faster than real time."""
    for block in blocks:
        yield block
        bar.total = max(bar.total, bar.n + len(block) / sample_rate)
        bar.update(len(block) / sample_rate)
        bar.set_postfix_str(f"{bar.n / max(bar.format_dict['elapsed'], 1e-9):.1f} x real time")


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


def plan(args: InferArgs) -> dict[Path, Path]:
    """Input -> output. The output tree mirrors the input's from the first folder with a star on; where two inputs
    differ in their suffix alone, the outputs keep it."""
    (root, found), out_dir = audio.inputs(args.inputs, args.out_dir, CLAIM), Path(args.out_dir)
    stems = Counter([*found, *(p.with_suffix("") for p in found)])  # a.flac, a.wav and a.flac.wav: three outputs
    outputs = {}
    for p in found:
        name = p.stem if stems[p.with_suffix("")] == 1 else p.name
        outputs[p] = out_dir / p.relative_to(root).with_name(name + ".wav")
    if same := {out.resolve() for out in outputs.values()} & {p.resolve() for p in found}:
        raise UserError(f"{min(same)}: would be written over by an estimate; choose another out_dir")
    return outputs


args = InferArgs(
    # edit here what differs from the defaults above, for example:
    # checkpoint="runs/alice/best.pt",
    # inputs="datasets/dirty/alice/**/*",
    # out_dir="extracted/alice",
)

if __name__ == "__main__":
    failures = main(command_line(args))
    sys.exit(1 if failures else 0)
