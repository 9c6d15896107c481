"""Extract the speaker from recordings and films of any length, rate and format.

    python infer.py                                     # the InferArgs at the foot of this file
    python infer.py --checkpoint runs/alice/best.pt --inputs "datasets/dirty/alice/**/*" --out-dir extracted/alice

    extract = Extractor("runs/alice/best.pt")           # from other programs: `from infer import Extractor`
    estimate = extract(samples, rate)

What comes out is 44.1 kHz mono 32-bit float WAV (the rate is the checkpoint's), as long and as loud as what went in.
Files that are there already are left alone, unless their recording has changed, so that a run that was stopped goes on
where it was; several runs at once share the work. index.html beside them is the page to look at and listen to: of long
recordings, the part where most was extracted.
"""

import math
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr
import torch
from tqdm import tqdm

import models
from extractor import UserError, audio, page, precision, require, script, timeline, voice_formats
from extractor.chunked import extract_long, extract_stream, pieces_at_once
from extractor.device import pick_device
from extractor.estimates import CLAIM, Estimates, opened
from extractor.files import content_hash, taken
from extractor.levels import QUIET_DB, level_db
from extractor.profile import NARROWER, WIDER, profile
from extractor.script import command_line

FORMATS = {"wav": (".wav", "FLOAT"), "wav24": (".wav", "PCM_24"), "flac": (".flac", "PCM_24")}  # suffix, samples
CHANNELS = "mono", "keep"
RESIDUAL = ".residual"  # in the name of what was taken away
WAIT_S = 0.5            # until it is looked again at what other processes do
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}{postfix}]"
LONG_S = 20       # a recording in which the speaker should be heard somewhere
NOWHERE_DB = -12  # of its level the most that is kept of any second where the speaker is nowhere


@dataclass(frozen=True)
class InferArgs:
    checkpoint: str = "runs/speaker/best.pt"
    inputs: str = "datasets/dirty/speaker/**/*"  # a glob, a folder or a file
    out_dir: str = "extracted/speaker"           # the tree below the glob's first star is kept
    overwrite: bool = False
    audio_stream: int = 0     # the one to extract from where a film has several
    channels: str = "mono"    # mono: their mean is extracted; keep: as many come out, and the speaker stays in place
    keep_db: float = -math.inf  # the rest of the recording stays in the estimate, so much turned down: -20
    format: str = "wav"       # wav: 32-bit float; wav24, flac: 24 bits, which hold nothing above full scale
    residual: bool = False    # also write what was taken away: <name>.residual.wav
    timeline: bool = False    # also write when the speaker speaks: <name>.srt and <name>.rttm
    words: str = ""           # the language, en, in which Whisper hears the texts of the timeline; "": no texts
    page_s: float = 60.0      # of each recording on the page out_dir/index.html, to look at and listen to; 0: no page
    chunk_s: float = 10.0     # kept of each piece; memory grows with it, and on a CPU with the threads, up to eight
    context_s: float = 1.0    # seen on both sides of it, then thrown away
    fade_s: float = 0.1       # cross-fade from piece to piece, inside the context
    device: str = "auto"      # auto, cpu, cuda, cuda:1
    precision: str = "fp32"   # of products: fp32, bf16; auto is bf16 where the device is faster at it

    def __post_init__(self):
        if not 0 <= self.page_s < math.inf:
            raise UserError(f"InferArgs.page_s = {self.page_s}: give the seconds for the page, or 0 for no page")
        lengths = self.chunk_s, self.context_s, self.fade_s
        if not all(map(math.isfinite, lengths)) or not 0 <= self.fade_s <= min(lengths) or self.chunk_s < 0.1:
            given = f"chunk_s = {self.chunk_s}, context_s = {self.context_s}, fade_s = {self.fade_s}"
            fade = "the fade must fit in the context and in the chunk"
            raise UserError(f"InferArgs: {given}: {fade}, and the chunk be 0.1 s or more, of a finite length")
        require(self, "channels", self.channels in CHANNELS, f"give {' or '.join(CHANNELS)}")
        require(self, "format", self.format in FORMATS, f"give one of {', '.join(FORMATS)}")
        require(self, "precision", self.precision in precision.PRECISIONS, f"give {', '.join(precision.PRECISIONS)}")
        require(self, "keep_db", self.keep_db < 0, "give less than 0 dB, such as -20; -inf keeps nothing")
        require(self, "words", not self.words or self.timeline, "texts are part of the timeline: --timeline True")

    @property
    def options(self) -> dict:
        """What an estimate depends on besides its recording and its net."""
        names = "audio_stream", "channels", "keep_db", "format", "precision"
        return {name: str(getattr(self, name)) for name in names}


class Extractor:
    """A trained net that extracts its speaker from sound in memory.

        extract = Extractor("runs/alice/best.pt")
        estimate = extract(samples, rate)

    Raises UserError where the checkpoint is not one of train.py, or the device is not there.
    """

    def __init__(
        self, checkpoint: str | Path, *, device: str = "auto", precision: str = "fp32",
        chunk_s: float = 10.0, context_s: float = 1.0, fade_s: float = 0.1,
    ):
        """All but the checkpoint as in InferArgs. The seconds change the memory it takes, and nearly nothing else."""
        self.device, self.precision = pick_device(device), precision
        self.net, self.family = models.load(checkpoint)
        self.net.to(self.device)
        self.sample_rate = self.net.args.sample_rate
        lengths = {"chunk": chunk_s, "context": context_s, "fade": fade_s}
        self.sizes = {name: round(seconds * self.sample_rate) for name, seconds in lengths.items()}

    def __call__(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """Extracts the speaker from samples at any rate, in Hz; full scale is 1. [T] or [T, channels] -> the same, as
        float32, at that rate. All channels get one gain where the net is a gain, else each is extracted by itself.
        Raises UserError where samples are integers, NaN or infinite, or where the rate is none."""
        samples = checked(samples)
        if not rate > 0:
            raise UserError(f"rate = {rate}: give the rate of the samples in Hz")
        mixture = samples if rate == self.sample_rate else soxr.resample(samples, rate, self.sample_rate)
        blocks = self.long(lambda start, n: mixture[start : start + n], len(mixture))
        estimate = np.concatenate([*blocks, mixture[:0]])
        if rate != self.sample_rate:
            estimate = soxr.resample(estimate, self.sample_rate, rate)
            missing = max(0, len(samples) - len(estimate))
            estimate = np.pad(estimate, [(0, missing), *[(0, 0)] * (samples.ndim - 1)])[: len(samples)]
        return estimate

    def stream(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Extracts the speaker from blocks of samples as they arrive, at `sample_rate`. [n] or [n, channels] each ->
        blocks that together are as long. Samples come out when those of their chunk and the context behind it are
        there: chunk_s + context_s after the first of the chunk, and the time that the net takes."""
        return extract_stream(map(checked, blocks), self.piece, **self.sizes)

    def long(self, read, n_samples: int, extract=None) -> Iterator[np.ndarray]:
        """As extractor.chunked.extract_long. extract: what is done to each piece; by default `piece`."""
        return extract_long(read, extract or self.piece, n_samples, **self.sizes, at_once=pieces_at_once(self.device))

    @torch.inference_mode()
    def piece(self, mixture: np.ndarray, start: int = 0, channel: int | None = None) -> np.ndarray:
        """Extracts from samples in one piece, at `sample_rate`. start: their place in the recording. channel: the one
        that the net hears where one gain is for all; None: their mean. [n] or [n, channels] -> the same"""
        signals = torch.from_numpy(np.atleast_2d(mixture.T).copy()).to(self.device)  # [1 or channels, n]
        with precision.autocast(self.device, self.precision):
            if mixture.ndim == 2 and self.family.extract_channels:
                heard = signals.mean(0) if channel is None else signals[channel]
                estimate = self.family.extract_channels(self.net, signals, heard)
            else:
                estimate = self.family.extract(self.net, signals, start)
        return estimate.float().cpu().numpy().T.reshape(mixture.shape)


def checked(samples: np.ndarray) -> np.ndarray:
    """Returns samples as float32. Raises UserError where they are none."""
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or samples.dtype.kind != "f" or 0 in samples.shape[1:]:
        given = f"an array of {samples.dtype}, {list(samples.shape)}"
        raise UserError(f"samples are {given}: give floats, full scale 1, [T] or [T, channels]")
    if not np.isfinite(samples).all():
        raise UserError("samples are NaN or infinite")
    return samples.astype(np.float32, copy=False)


def main(args: InferArgs) -> list[str]:
    """Extract every input. Returns a sentence for each file that could not be done."""
    fields = "device", "precision", "chunk_s", "context_s", "fade_s"
    extractor = Extractor(args.checkpoint, **{name: getattr(args, name) for name in fields})
    outputs = plan(args)
    with opened(
        args.out_dir, args.checkpoint, [*outputs.values()], args.options, overwrite=args.overwrite
    ) as estimates:
        return extract_all(outputs, extractor, estimates, args)


def extract_all(outputs: dict[Path, Path], extractor: Extractor, estimates: Estimates, args: InferArgs) -> list[str]:
    """Input -> output, all that are not there yet, and the page. Returns as main."""
    noted = estimates.noted

    def is_done(source: Path, out: Path) -> bool:
        there = all(path.exists() for path in besides(out, args))
        return there and estimates.done(source, out, noted)

    todo = deque(item for item in outputs.items() if args.overwrite or not is_done(*item))
    print(f"{len(outputs)} recordings, {len(outputs) - len(todo)} done before; extracting on {extractor.device}")
    hear = voice_formats.transcriber(args.words) if args.words and todo else None
    failures, n_todo, n_begun, waits = [], len(todo), 0, 0
    told = {source: audio.told_seconds(source) for source, _ in todo}
    with tqdm(total=sum(told.values()), unit="s", dynamic_ncols=True, bar_format=BAR) as bar:
        while todo:
            source, out = todo.popleft()
            with taken(out) as mine:
                if not mine:  # of the others first
                    todo.append((source, out))
                    waits += 1
                    if waits >= len(todo):
                        bar.set_description_str(f"waiting for {len(todo)} that other processes extract")
                        time.sleep(WAIT_S)
                    continue
                due, n_begun = bar.n + told[source], n_begun + 1
                bar.set_description_str(f"{n_begun} of {n_todo}: {source.name}")
                try:
                    if waits:
                        noted = estimates.noted
                    if args.overwrite or not estimates.done(source, out, noted):
                        content = extract_file(source, out, extractor, args, bar)
                        estimates.note(out, content)
                    write_besides(source, out, args, hear)
                except UserError as e:
                    failures.append(str(e))
                    tqdm.write(f"passed over: {e}", file=sys.stderr)
            waits = 0
            bar.total = max(bar.n, bar.total + bar.n - due)  # the recording is longer than its header says, or shorter
            bar.refresh()
    estimates.save()
    if failures:
        print(f"{len(failures)} of {n_todo} recordings failed:", *failures, sep="\n  ", file=sys.stderr)
    if args.page_s:
        head = script.run_info(args, args.out_dir) | {"sample_rate": extractor.sample_rate, "failures": failures}
        with estimates.shared.alone():
            others = estimates.noted.get("others", {})
            page.show(outputs, head, args.out_dir, args.checkpoint, args.page_s, others=others)
    return failures


def extract_file(source: Path, out: Path, extractor: Extractor, args: InferArgs, bar: tqdm) -> str:
    """One recording, chunk by chunk from disk to disk. The bar goes on by its seconds. Returns the recording's hash."""
    rate, content = extractor.sample_rate, content_hash(source)
    recording = audio.probe_mixture(source, args.audio_stream)
    for remark in recording.remarks:
        tqdm.write(f"{source}: {remark}")
    if recording.offset:
        tqdm.write(f"{source}: its constant offset of {recording.offset:+.2f} of full scale is taken away")
    if told := extractor.net.bandwidth_hz and outside(recording, extractor.net.bandwidth_hz):
        tqdm.write(told)
    if recording.channel is not None:
        alone = f"channel {recording.channel + 1} alone is {'extracted' if args.channels == 'mono' else 'heard'}"
        tqdm.write(f"{source}: its channels {recording.why}; {alone}")

    kept_db = [-math.inf]  # of each piece, the most of any second over its level
    rest = np.float32(10 ** (args.keep_db / 20))

    def extract(mixture: np.ndarray, start: int) -> np.ndarray:
        try:
            estimate = extractor.piece(mixture, start, recording.channel)
        except RuntimeError as e:
            if not isinstance(e, torch.OutOfMemoryError) and "allocate memory" not in str(e):  # the latter of a CPU
                raise
            less = f"give InferArgs.chunk_s less than {args.chunk_s:g}"
            raise UserError(f"{source}: a chunk does not fit into the memory of {extractor.device}: {less}") from None
        if not np.isfinite(estimate).all():
            first, last = start / rate, (start + len(mixture)) / rate
            what = f"the estimate of {first:.1f} to {last:.1f} s is not finite"
            why = f"the recording's peak there is {np.abs(mixture).max():.2g}"
            raise UserError(f"{source}: {what} ({why}); a damaged recording, or a net that did not learn")
        kept_db.append(most_kept_db(estimate, mixture, rate))
        return estimate + rest * (mixture - estimate) if rest else estimate

    def read(start: int, n: int) -> np.ndarray:
        samples = audio.read(recording, start, n, rate, mono=args.channels == "mono")
        return samples if samples.ndim == 1 else samples.astype(np.float32) - np.float32(recording.offset)

    for path in besides(out, replace(args, residual=True, timeline=True)):  # of the estimate before
        path.unlink(missing_ok=True)
    n_samples = recording.length(rate)
    channels = recording.channels if args.channels == "keep" else 1
    with audio.kept_open(recording) as files:
        blocks = counted(extractor.long(read, n_samples, extract), bar, rate)
        write(out, blocks, n_samples, rate, channels, args)
        if damage := audio.damage(recording, files):
            tqdm.write(f"{source}: {damage}")
    if content_hash(source) != content:
        out.unlink()
        raise UserError("changed while it was read; run again when it is complete", source)
    if max(kept_db) < NOWHERE_DB and recording.seconds >= LONG_S:
        tqdm.write(f"{source}: the net hears its speaker nowhere in it; is it the right checkpoint for this recording?")
    return content


def write(
    out: Path, blocks: Iterable[np.ndarray], n_samples: int, rate: int, channels: int, args: InferArgs
):
    """Writes an estimate, or what was taken away, as args.format says."""
    suffix, subtype = FORMATS[args.format]
    above = [0, 1.0]  # samples that 24 bits do not hold, and the peak

    def watched() -> Iterator[np.ndarray]:
        for block in blocks:
            magnitudes = np.abs(block)
            above[:] = above[0] + int((magnitudes > 1).sum()), max(above[1], float(magnitudes.max(initial=0)))
            yield block

    # shared: where a disk knows no locks, two processes may be at one file
    audio.write(out, watched(), n_samples, rate, channels=channels, subtype=subtype, shared=True)
    if above[0] and subtype != "FLOAT":
        clipped = f"{above[0]} samples are above full scale, by {20 * math.log10(above[1]):.1f} dB at most"
        tqdm.write(f"{out}: {clipped}, and are clipped; --format wav keeps them")


# --- what lies beside an estimate ------------------------------------------------------------------------------------

def residual_of(out: Path) -> Path:
    return out.with_name(f"{out.stem}{RESIDUAL}{out.suffix}")


def besides(out: Path, args: InferArgs) -> list[Path]:
    """Returns the files that are wanted beside an estimate."""
    lines = [out.with_suffix(".srt"), out.with_suffix(".rttm")] if args.timeline else []
    return [residual_of(out), *lines] if args.residual else lines


def write_besides(source: Path, out: Path, args: InferArgs, hear):
    """Writes what is wanted beside an estimate, from the estimate and its recording."""
    if not besides(out, args):
        return
    mixture, estimate = audio.probe_mixture(source, args.audio_stream), audio.probe(out)
    estimate = replace(estimate, channel=mixture.channel if estimate.channels > 1 else None)
    rate, n_samples, mono = estimate.rate, estimate.frames, estimate.channels == 1

    def difference() -> Iterator[np.ndarray]:
        for start in range(0, n_samples, 10 * rate):
            n = min(10 * rate, n_samples - start)
            x, y = (audio.read(recording, start, n, rate, mono=mono) for recording in (mixture, estimate))
            yield x.astype(np.float32) - (0 if mono else np.float32(mixture.offset)) - y.astype(np.float32)

    with audio.kept_open(mixture), audio.kept_open(estimate):
        if args.residual:
            write(residual_of(out), difference(), n_samples, rate, estimate.channels, args)
    if args.timeline:
        timeline.write(mixture, estimate, Path(args.checkpoint).parent.name, args.keep_db, hear)


def counted(blocks: Iterable[np.ndarray], bar: tqdm, sample_rate: int) -> Iterator[np.ndarray]:
    """The blocks, while the bar says how far it is, and how many times faster than real time."""
    for block in blocks:
        yield block
        bar.total = max(bar.total, bar.n + len(block) / sample_rate)
        bar.update(len(block) / sample_rate)
        bar.set_postfix_str(f"{bar.n / max(bar.format_dict['elapsed'], 1e-9):.1f} x real time")


def most_kept_db(estimate: np.ndarray, mixture: np.ndarray, sample_rate: int) -> float:
    """Level of the estimate over that of the mixture, in the second of which most was kept; -inf where all is silence.
    [T] or [T, channels], twice -> dB"""
    estimate, mixture = (x if x.ndim == 1 else x.mean(1) for x in (estimate, mixture))
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
        outputs[p] = out_dir / p.relative_to(root).with_name(name + FORMATS[args.format][0])
    written = {path.resolve() for out in outputs.values() for path in (out, *besides(out, args))}
    if same := written & {p.resolve() for p in found}:
        raise UserError(f"{min(same)}: would be written over by an estimate; choose another out_dir")
    if args.residual and (same := {*map(residual_of, outputs.values())} & {*outputs.values()}):
        raise UserError(f"{min(same)}: would be an estimate and what was taken away; rename its recording")
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
