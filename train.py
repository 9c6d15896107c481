"""Train a net that extracts one speaker.

    python train.py                                     # the MainArgs at the foot of this file
    python train.py --name alice --data.clean datasets/clean/alice --steps 50000
    python train.py --model bandsplit-small --model.n-blocks 3
    torchrun --nproc_per_node 8 train.py                # on eight GPUs
    tensorboard --logdir runs

Run it again and it goes on from runs/<name>/last.pt; runs/<name>/best.pt is what infer.py wants.
"""

import hashlib
import math
import os
import platform
import sys
import time
from collections import ChainMap
from collections.abc import Iterable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import models
from dataset import KINDS, Keys, MixtureArgs, MixtureDataset, under_conditions
from extractor import UserError, check_counts, checkpoint, ddp, fit, journal, precision, sigma
from extractor.attention import entropy_by_layer
from extractor.augment import CONDITIONS, AugmentArgs
from extractor.command import command_line
from extractor.device import pick_device
from extractor.files import alone_in
from extractor.losses import LossArgs
from extractor.material import Material, find_material, speakers, unlike_captures, unpacked
from extractor.metrics import attenuation, si_sdri
from extractor.optim import freeze, learning_rate, make_optimizers, set_learning_rate, update_average
from extractor.parallel import Backward, gradients, layers_of
from extractor.profile import profile
from extractor.progress import Progress, keep_best, resume, same_run, saver
from extractor.stop import STATUS, Stop, outlive

MAX_BAD = 10  # steps in a row without a finite loss and gradient before the run stops
UNPACKED = "unpacked"  # the folder among the runs where decoded recordings lie
INDEX = "recordings.json"  # the file among them that says what is known of recordings


@dataclass(frozen=True)
class MainArgs:
    name: str = "speaker"         # the run: everything goes to <runs>/<name>
    runs: str = "runs"
    data: MixtureArgs = field(default_factory=MixtureArgs)
    augment: AugmentArgs = field(default_factory=AugmentArgs)  # what is done to mixtures to learn from
    model: models.Args = models.PRESETS["fullband-light"]   # its class picks the family
    loss: LossArgs = field(default_factory=LossArgs)
    init_from: str = ""           # a checkpoint whose weights the net starts from; for a flow, of the net it refines
    freeze: tuple[str, ...] = ()  # parts of the net that keep these weights, by dotted names: enter layers.0
    steps: int = 20_000
    batch_size: int = 16          # items a step, of all processes together
    accumulate: int = 1           # a step's items go through the net in so many turns, where they do not fit at once
    lr: float = 5e-4              # peak; linear warm-up, then half a cosine down to a hundredth
    muon: float = 14.0            # the matrices' learning rate, by Muon, over lr; 0: AdamW for them, too
    warmup: int = 100             # steps
    weight_decay: float = 0.1     # on matrices, which otherwise grow from step to step; none on norms and biases
    clip_norm: float = 5.0        # L2 norm of all gradients
    ema: float = 0.999            # the averaged weights, which are validated and extract, keep this much a step
    valid_every: int = 500        # steps: an epoch
    save_every: int = 100         # steps between two writes of last.pt; a kill loses no more
    keep: int = 1                 # from 2 on the so many best checkpoints stay, each as step_<n>.pt too
    patience: int = 0             # end after so many validations without a better one; 0: never
    unpack_gb: float = 10.0       # compressed recordings are decoded once, to <runs>/unpacked, up to this much of it
    workers: int = 2              # processes that make mixtures; 0 makes them in this one
    device: str = "auto"          # auto, cpu, cuda, cuda:1
    precision: str = "auto"       # of products in training: bf16, fp32; auto is bf16 where the device is faster at it
    seed: int = 0                 # of the first weights
    compile: bool = False         # torch.compile the layers, where trial steps, which take minutes, find it faster
    entropy: bool = False         # curves of the entropy of every attention, too, at each validation
    dry_run: bool = False         # train nothing, but say what batch fits into memory and how long training would take

    def __post_init__(self):
        check_counts(self, "steps", "batch_size", "accumulate", "valid_every", "save_every", "keep")
        if not self.name or Path(self.name).name != self.name or self.name in ("..", UNPACKED, INDEX):
            taken = f"not {UNPACKED} or {INDEX}"
            raise UserError(f"MainArgs.name = {self.name!r}: give a folder name, without a slash, {taken}")
        for name in ("warmup", "muon", "weight_decay", "workers", "unpack_gb", "patience"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"MainArgs.{name} = {getattr(self, name)}: give 0 or more")
        for name in ("lr", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"MainArgs.{name} = {getattr(self, name)}: give more than 0")
        if not 0 <= self.ema < 1:
            raise UserError(f"MainArgs.ema = {self.ema}: give a share, 0 to below 1")
        if self.precision not in precision.PRECISIONS:
            raise UserError(f"MainArgs.precision = {self.precision!r}: give {', '.join(precision.PRECISIONS)}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"MainArgs.seed = {self.seed}: give a number of 0 to 2^63 - 1")

    @property
    def folder(self) -> Path:
        return Path(self.runs) / self.name


def main(args: MainArgs) -> Path:
    """Train to args.steps. Returns the path of the best checkpoint. Told to end by SIGTERM, it saves and exits with
    stop.STATUS."""
    device = pick_device(args.device, ddp.local_rank())
    with ddp.joined(device) as team, Stop() as stop:
        with alone_in(args.folder) if team.rank == 0 and not args.dry_run else nullcontext():
            return run(args, device, team, stop)


def run(args: MainArgs, device: torch.device, team: ddp.Team, stop: Stop) -> Path:
    last = args.folder / "last.pt"
    if start := last if last.exists() else args.init_from:
        args = replace(args, model=models.refining(args.model, start))
    family = models.family_of(args.model)
    sample_rate = args.model.sample_rate

    # --- net, with its first weights or another run's ----------------------------------------------------------------
    loss_of = loss_function(args, family, device)
    torch.manual_seed(args.seed)
    net = family.net(args.model).to(device)
    if last.exists():
        state = models.same_net(last, args.model)
        args = replace(args, init_from=same_run(last, state, args, net))
    else:
        state = checkpoint.load(start) if start else {}
        models.start_from(net, args.init_from)
    freeze(net, args.freeze)
    if args.compile and not layers_of(net):
        raise UserError(f"MainArgs.compile: a {models.family_name(args.model)} net has no layers for it; leave it off")
    here = share(args, team)  # items of a step that are this process's
    at_once = here // args.accumulate

    # --- data --------------------------------------------------------------------------------------------------------
    first = team.rank == 0
    with team.first_alone():
        material = find_material(args.data, index=Path(args.runs) / INDEX, progress=first)
        material = unpacked(material, Path(args.runs) / UNPACKED, 1e9 * args.unpack_gb, progress=first)
    clips_before = state.get("clips", {})
    valid_s = material.held_out(args.data, clips_before)
    training = MixtureDataset(material, args.data, sample_rate, split="train", augmented=args.augment, held=valid_s)
    validation = MixtureDataset(material, args.data, sample_rate, split="valid", augmented=CONDITIONS, held=valid_s)
    describe_material(material, validation)
    if first:
        for sentence in unlike_captures(args.data, material.clean):
            print(sentence)

    # --- optimizers, and how far the run has come --------------------------------------------------------------------
    average = deepcopy(net).to(device).eval().requires_grad_(False)  # .to: as in fit.py
    optimizers = make_optimizers(net, args)
    judged_by = yardstick(args, validation)
    progress = Progress()
    if last.exists():
        progress = resume(last, state, args, net, average, optimizers, judged_by)
    if args.dry_run:
        print(fit.table(args, at_once, loss_of, net, device))
        return args.folder / "best.pt"
    print(f"{models.family_name(args.model)}: {fit.cost(args, at_once, loss_of, net, device)}")
    if why := progress.ended(args):
        print(why)
        return args.folder / "best.pt"

    machine = ", ".join(dict.fromkeys(team.gather(f"{platform.node()} {device.type}")))
    if args.compile and machine not in progress.compiled:
        progress.compiled[machine] = fit.compiled_is_faster(args, at_once, loss_of, net, device, team)

    keys = Keys(progress.step, args.batch_size, args.valid_every, team.rank * here, here)
    loader = DataLoader(
        training, at_once, sampler=keys, num_workers=args.workers, worker_init_fn=outlive,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # the loader seeds its workers; torch's own state is the net's
    )
    frozen = {i: validation[0, i] for i in range(team.rank, len(validation), team.size)}
    examples = [validation[0, i] for i in range(min(len(KINDS), len(validation)))]
    if args.entropy and not len(entropies(average, examples, device)):
        raise UserError(f"MainArgs.entropy: a {models.family_name(args.model)} net has no attention; leave it off")
    log = journal.Journal(args.folder, progress.step, args.steps) if first else journal.NoJournal()
    print(f"training on {device}, step {progress.step} to {args.steps}; curves: tensorboard --logdir {args.runs}")

    # --- the loop ----------------------------------------------------------------------------------------------------
    bad, skipped, unread = 0, 0, 0  # steps in a row; in all; draws from recordings that could not be read
    heard = False  # whether the journal has examples of this process
    started = time.monotonic() - progress.seconds
    meter = journal.Meter(device, args.batch_size * args.data.segment_s)
    clips = {os.path.abspath(r.path): (r.seconds, valid_s.get(r.path, 0.0)) for r in material.clean}
    always = {
        "family": models.family_name(args.model), "clips": clips_before | clips, "judged_by": judged_by,
        "bandwidth_hz": trained_for(material, args.augment),
    }
    save = saver(args, always, net, average, optimizers) if first else lambda *_: None
    backward = Backward(net, device, at_once, compiled=args.compile and progress.compiled[machine])
    for batches in meter.waiting(in_turns(loader, args.accumulate)):
        lr = learning_rate(progress.step, args)
        set_learning_rate(optimizers, lr)
        loss, parts = backward(loss_of, batches, args.batch_size)
        failed = sum(batch["unread"].sum().item() for batch in batches)
        loss, asked, failed, *named = team.total(gradients(net), [loss.item(), stop.asked, failed, *parts.values()])
        unread += round(failed)
        norm = nn.utils.clip_grad_norm_(net.parameters(), args.clip_norm).item()
        finite = math.isfinite(loss) and math.isfinite(norm)
        if finite:
            for optimizer in optimizers:
                optimizer.step()
            sigma.update(net)
            update_average(average, net, args.ema, progress.step)
        progress.step += 1
        bad, skipped = (0, skipped) if finite else (bad + 1, skipped + 1)
        if bad >= MAX_BAD:
            raise UserError(
                f"{bad} steps in a row had no finite loss or gradient (last: loss {loss:.3g}, gradient norm "
                f"{norm:.3g}) at step {progress.step}; they left no trace: lower MainArgs.lr = {args.lr} and run again"
            )

        parts = {"loss": loss, **dict(zip(parts, named, strict=True))}
        counts = {"skipped": skipped, "unread": unread}
        log.step(parts, counts)
        if progress.step % journal.EVERY == 0:
            clip = {"grad_norm": norm, "clip": min(1.0, args.clip_norm / max(norm, 1e-12))}
            log.point("train", progress.step, {**parts, "lr": lr, **clip, **counts, **meter.read()})
        validated = progress.step % args.valid_every == 0 or progress.step >= args.steps
        if validated:
            team.align(changed_by_steps(net, average, optimizers, device))
            sigma.refresh(average)
            values, estimates = validate(family, average, frozen, args, device, team)
            log.point("valid", progress.step, values | {"minutes": (time.monotonic() - started) / 60})
            if args.entropy:
                layers = entropies(average, examples, device)
                log.point("entropy", progress.step, {f"layer_{i}": value for i, value in enumerate(layers)})
            if not heard or values["loss"] < progress.best:  # sound of every validation would fill a disk
                log.examples(progress.step, dict(zip(KINDS, examples, strict=False)), estimates, sample_rate)
            heard = True
            log.say(f"step {progress.step}: " + "  ".join(f"{k} {v:+.2f}" for k, v in values.items()))
            progress.seconds = time.monotonic() - started
            keep_best(args, progress, values["loss"], save, first)
        over = progress.ended(args)
        if validated or over or asked or progress.step % args.save_every == 0:
            progress.seconds = time.monotonic() - started
            save("last.pt", progress)
            meter.restart()  # the speed is that of steps
        if over or asked:
            break
    log.close()
    team.gather(None)  # torchrun ends the others as soon as one leaves: not before the first one has saved
    if unread:
        print(f"{unread} draws from recordings failed and were made anew; the recordings are named above")
    if skipped:
        print(f"{skipped} steps were skipped: no finite loss or gradient")
    if asked and not over:
        print(f"told to end at step {progress.step} of {args.steps}, saved; run it again to go on")
        sys.exit(STATUS)
    best = args.folder / "best.pt"
    speaker = min(speakers(args.data, [r.path for r in material.clean]))
    print(
        f"best at step {progress.best_step}, validation loss {progress.best:+.2f}: {best}; next: python infer.py "
        f'--checkpoint "{best}" --inputs "datasets/dirty/{speaker}/**/*" --out-dir "extracted/{args.name}"'
    )
    return best


# ---------------------------------------------------------------------------------------------------------------------
# one step


def loss_function(args: MainArgs, family, device: torch.device):
    def loss(net: nn.Module, mixture: Tensor, target: Tensor, seeds: Tensor):
        with precision.autocast(device, args.precision):
            return family.loss(net, mixture, target, args.loss, seeds)
    return loss


@torch.no_grad()
def validate(
    family, net, frozen: dict[int, dict], args: MainArgs, device, team: ddp.Team
) -> tuple[dict[str, float], list[Tensor]]:
    """The averaged net on the frozen mixtures, of which each process has its own: mean loss, SI-SDRi by kind,
    attenuation where the target is absent, both also of those under conditions. Also returns the first estimates, one
    of each kind."""
    values, estimates = {}, {}
    for i, item in frozen.items():
        mixture, target = item["mixture"][None].to(device), item["target"][None].to(device)
        estimate, kind = family.extract(net, mixture), KINDS[i % len(KINDS)]
        if kind == "absent":
            name, value = "absent_db", attenuation(estimate=estimate, mixture=mixture)
        else:
            name, value = f"{kind}_si_sdri_db", si_sdri(estimate=estimate, mixture=mixture, reference=target)
        name = f"conditions_{name}" if under_conditions(i) else name
        values[i] = {"loss": family.loss(net, mixture, target, args.loss)[0].item(), name: value.item()}
        if i < len(KINDS):
            estimates[i] = estimate[0].cpu()
    everyones = ChainMap(*team.gather(values))
    by_name: dict[str, list[float]] = {}
    for i in sorted(everyones):
        for name, value in everyones[i].items():
            by_name.setdefault(name, []).append(value)
    first = ChainMap(*team.gather(estimates))
    return {name: float(np.mean(v)) for name, v in by_name.items()}, [first[i] for i in sorted(first)]


def changed_by_steps(net, average, optimizers, device: torch.device) -> list[Tensor]:
    """All that steps change and that lies on the device."""
    states = (x for optimizer in optimizers for state in optimizer.state.values() for x in state.values())
    tensors = *net.parameters(), *net.buffers(), *average.parameters(), *average.buffers(), *states
    return [x for x in tensors if isinstance(x, Tensor) and x.device == device]


def entropies(net: nn.Module, items: list[dict], device: torch.device) -> list[float]:
    """Of every attention in the net, 0 to 1, on a batch of these items."""
    return entropy_by_layer(net, torch.stack([item["mixture"] for item in items]).to(device)).tolist()


# ---------------------------------------------------------------------------------------------------------------------
# before the first step


def yardstick(args: MainArgs, held_out: MixtureDataset) -> str:
    """A digest of what a validation loss depends on but the weights: the recordings, how they are mixed, the loss."""
    sources = [(str(s.recording.path), s.start, s.length)
               for pool in (held_out.clean, held_out.games, held_out.voices) for s in pool.sources]
    training = {"speed": (1.0, 1.0), "absent": 0.0, "alone": 0.0, "both": 0.0, "voice": 0.0}  # what matters there
    mixed = replace(args.data, clean=(), dirty=(), captures=(), **training)  # folders may be written in several ways
    flow_steps = getattr(args.model, "steps", None)
    everything = repr((sources, mixed, held_out.augment, args.loss, flow_steps))
    return hashlib.sha256(everything.encode("utf-8", "surrogateescape")).hexdigest()


def trained_for(material: Material, augmented: AugmentArgs) -> tuple[float, float]:
    """How high the sound reaches of which mixtures are made, at least and at most, Hz."""
    reach = profile(material.clean).bandwidth_hz
    return min(reach, augmented.cutoff_hz[0] if augmented.band else reach), reach


def describe_material(material: Material, held_out: MixtureDataset):
    """What was found: files, minutes, rates, and what validation took of it."""
    for name, recordings in material._asdict().items():
        minutes = sum(r.seconds for r in recordings) / 60
        rates = ", ".join(f"{r} Hz" for r in sorted({r.rate for r in recordings})) or "none"
        print(f"{name:7}{len(recordings):6} files {minutes:8.1f} min  {rates}")
        for recording in recordings:
            if recording.cut_off:
                print(f"{recording.path}: cut off at its end; the {recording.seconds:.1f} s that are there are used")
    clean, dirty = (
        f"{sum(s.length for s in pool.sources) / held_out.sample_rate / 60:.1f} min of {len(pool)}"
        for pool in (held_out.clean, held_out.dirty)
    )
    print(f"held out for validation: {clean} clean recordings, {dirty} dirty ones")
    if not material.voices:
        print(f"no dirty scene is named {held_out.args.voices!r}: items without the target use all dirty recordings")


def share(args: MainArgs, team: ddp.Team) -> int:
    """Items of a step that one process makes."""
    if args.batch_size % (team.size * args.accumulate):
        turns = f" in {args.accumulate} turns (MainArgs.accumulate)" if args.accumulate > 1 else ""
        raise UserError(
            f"MainArgs.batch_size = {args.batch_size} cannot be shared by {team.size} processes{turns}: "
            f"give a multiple of {team.size * args.accumulate}"
        )
    return args.batch_size // team.size


def in_turns(loader: Iterable[dict], n: int) -> Iterable[list[dict]]:
    """The batches of every step."""
    batches = iter(loader)
    try:
        while step := list(islice(batches, n)):
            yield step
    except UserError as e:  # of a worker, whose traceback comes before it
        raise UserError(str(e).rpartition("UserError: ")[2].strip()) from None


def steps_that_fit(args: MainArgs, minutes: float) -> int:
    """As many training steps as this machine does in these minutes, by the time of one; at least 1."""
    family, device = models.family_of(args.model), pick_device(args.device)
    net, loss_of = family.net(args.model).to(device), loss_function(args, family, device)
    step = fit.step_of(args, args.batch_size, loss_of, net, device)
    return max(1, round(60 * minutes / step.seconds))


if __name__ == "__main__":
    main(command_line(MainArgs(
        name="speaker",
        data=MixtureArgs(
            clean=("datasets/clean/speaker",),
            dirty=("datasets/dirty/other",),
        ),
        model=models.PRESETS["fullband-light"],
    ), model=models.PRESETS))
