"""Extract the speaker from recordings of any length, rate and format.

    python infer.py                                     # the InferArgs at the foot of this file
    python infer.py --checkpoint runs/alice/best.pt --inputs "datasets/dirty/alice/**/*" --out-dir extracted/alice

What comes out is 44.1 kHz mono 32-bit float WAV (the rate is the checkpoint's), as long and as loud as what went in.
Files that are there already are left alone, so that a run that was stopped goes on where it was.
"""

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import models
from extractor import UserError, audio
from extractor.chunked import extract_long
from extractor.command import command_line
from extractor.device import pick_device


@dataclass(frozen=True)
class InferArgs:
    checkpoint: str = "runs/speaker/best.pt"
    inputs: str = "datasets/dirty/speaker/**/*"  # a glob, a folder or a file
    out_dir: str = "extracted/speaker"           # the tree below the glob's first star is kept
    overwrite: bool = False
    chunk_s: float = 10.0     # kept of each piece; memory grows with it
    context_s: float = 1.0    # seen on both sides of it, then thrown away
    fade_s: float = 0.1       # cross-fade from piece to piece, inside the context
    device: str = "auto"      # auto, cpu, cuda, cuda:1

    def __post_init__(self):
        if not 0 <= self.fade_s <= min(self.context_s, self.chunk_s) or self.chunk_s < 0.1:
            raise UserError(
                f"InferArgs: chunk_s = {self.chunk_s}, context_s = {self.context_s}, fade_s = {self.fade_s}: "
                "the fade must fit in the context and in the chunk, and the chunk be 0.1 s or more"
            )


def main(args: InferArgs) -> list[str]:
    """Extract every input. Returns a sentence for each file that could not be done."""
    device = pick_device(args.device)
    net, family = models.load(args.checkpoint)
    net.to(device)
    outputs = plan(args)
    todo = [(source, out) for source, out in outputs.items() if args.overwrite or not out.exists()]
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
    return failures


def extract_file(source: Path, out: Path, net, family, args: InferArgs, device: torch.device):
    """One recording, chunk by chunk from disk to disk."""
    sample_rate = net.args.sample_rate
    recording = audio.probe(source)
    if recording.cut_off:
        tqdm.write(f"{source}: cut off at its end; the {recording.seconds:.1f} s that are there are extracted")

    @torch.inference_mode()
    def extract(mixture: np.ndarray) -> np.ndarray:
        return family.extract(net, torch.from_numpy(mixture)[None].to(device))[0].cpu().numpy()

    chunk, context, fade = (round(s * sample_rate) for s in (args.chunk_s, args.context_s, args.fade_s))
    n_samples = recording.length(sample_rate)
    blocks = extract_long(
        extract, lambda start, n: audio.read(recording, start, n, sample_rate), n_samples,
        chunk=chunk, context=context, fade=fade,
    )
    with audio.kept_open(recording):
        audio.write(out, blocks, n_samples, sample_rate)


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
