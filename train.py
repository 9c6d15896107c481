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
import sys
import time
from collections import ChainMap
from collections.abc import Iterator
from contextlib import closing, nullcontext, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import models
from augment import CONDITIONS, AugmentArgs
from dataset import KINDS, MixtureArgs, MixtureDataset, Reported, TrainingSampler, under_conditions
from extractor import UserError, check_counts, checkpoint, ddp, journal, precision, require, sigma, step_cost
from extractor.device import pick_device
from extractor.files import folder_lock
from extractor.layers import entropy_by_layer
from extractor.loader import in_turns, n_workers, workers_told_apart
from extractor.material import Material, find_material, speakers, unlike_captures, unpacked
from extractor.metrics import relative_level, si_sdri
from extractor.optim import freeze, learning_rate, make_optimizers, set_learning_rate, update_average
from extractor.parallel import Backward, gradients, layers_of
from extractor.profile import profile
from extractor.progress import Faults, Progress, begin, check_resumable, keep_best, resume, saver
from extractor.script import EXIT_RESUMABLE, Stop, command_line
from losses import LossArgs
from multispeaker import N_ITEMS, nearest

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
    init_from: str = "auto"       # a checkpoint to start from; auto: the base in pretrained/; none: random weights
    freeze: tuple[str, ...] = ()  # parts of the net that keep these weights, by dotted names: enter layers.0
    steps: int = 20_000
    minutes: float = 0.0          # of training, instead of `steps`: as many as fit; 0: `steps` counts
    batch_size: int = 16          # items a step, of all processes together
    grad_accum_steps: int = 1     # a batch goes through the net in so many parts, where it does not fit at once
    lr: float = 5e-4              # peak; linear warm-up, then half a cosine down to a hundredth
    muon: float = 14.0            # the matrices' learning rate, by Muon, over lr; 0: AdamW for them, too
    warmup: int = 100             # steps, at most a fifth of all
    weight_decay: float = 0.1     # on matrices, which otherwise grow from step to step; none on norms and biases
    clip_norm: float = 5.0        # L2 norm of all gradients
    ema: float = 0.999            # the averaged weights, which are validated and extract, keep this much a step
    valid_every: int = 500        # steps: an epoch
    save_every: int = 100         # steps between two writes of last.pt, and
    save_s: float = 60.0          # seconds that lie between them at least; a kill loses no more
    keep: int = 1                 # from 2 on the so many best checkpoints stay, each as step_<n>.pt too
    patience: int = 0             # end after so many validations without a better one; 0: never
    unpack_gb: float = 10.0       # compressed recordings are decoded once, to <runs>/unpacked, up to this much of it
    workers: int | None = None    # processes that make mixtures; 0: this one; None: 2, on CUDA cores - 1, at most 8
    device: str = "auto"          # auto, cpu, cuda, cuda:1
    precision: str = "auto"       # of products in training: bf16, fp32; auto is bf16 where the device is faster at it
    seed: int = 0                 # of the first weights
    compile: bool = False         # torch.compile the layers; the first step then takes minutes
    entropy: bool = False         # curves of the entropy of every attention, too, at each validation
    dry_run: bool = False         # train nothing, but say what batch fits into memory and how long training would take

    def __post_init__(self):
        check_counts(self, "steps", "batch_size", "grad_accum_steps", "valid_every", "save_every", "keep")
        if not self.name or Path(self.name).name != self.name or self.name in ("..", UNPACKED, INDEX):
            taken = f"not {UNPACKED} or {INDEX}"
            raise UserError(f"MainArgs.name = {self.name!r}: give a folder name, without a slash, {taken}")
        for name in ("warmup", "muon", "weight_decay", "unpack_gb", "patience", "save_s", "minutes"):
            require(self, name, 0 <= getattr(self, name) < math.inf, "give 0 or more")
        require(self, "workers", self.workers is None or self.workers >= 0, "give 0 or more, or None")
        for name in ("lr", "clip_norm"):
            require(self, name, 0 < getattr(self, name) < math.inf, "give more than 0")
        require(self, "ema", 0 <= self.ema < 1, "give a share, 0 to below 1")
        require(self, "precision", self.precision in precision.PRECISIONS, f"give {', '.join(precision.PRECISIONS)}")
        require(self, "seed", 0 <= self.seed < 2**63, "give a number of 0 to 2^63 - 1")

    @property
    def folder(self) -> Path:
        return Path(self.runs) / self.name


def main(args: MainArgs) -> Path:
    """Train to args.steps. Returns the path of the best checkpoint. Told to end by SIGTERM, it saves and exits with
    script.EXIT_RESUMABLE."""
    device = pick_device(args.device, ddp.local_rank())
    with ddp.joined(device) as team, Stop() as stop, workers_told_apart():
        with folder_lock(args.folder) if team.rank == 0 and not args.dry_run else nullcontext():
            return run(args, device, team, stop)


def run(args: MainArgs, device: torch.device, team: ddp.Team, stop: Stop) -> Path:
    """Set-up, the loop, and what is said before and after. Returns as main."""
    last = args.folder / "last.pt"
    last = last if last.exists() else None  # None: a run that begins
    args, net, state = make_net(args, device, last)
    if args.minutes:
        steps = planned_steps(args, state if last else {}, team) if team.rank == 0 else 0
        args = replace(args, steps=team.gather(steps)[0])
    family = models.family_of(args.model)
    micro_batch_size = local_batch_size(args, team) // args.grad_accum_steps
    forward = loss_function(args, family, device)

    # --- data --------------------------------------------------------------------------------------------------------
    from_base = not last and not family.by_speaker and state and models.for_many(state, args.init_from)
    clips_before = {} if from_base else state.get("clips", {})  # those of a base are other people's
    material, training, validation, clips = make_data(args, clips_before, team)
    if args.dry_run:
        def seconds_of(longer: MainArgs) -> float:
            return seconds_a_step(replace(longer, batch_size=local_batch_size(args, team)), net, material, device)
        print(step_cost.table(args, micro_batch_size, forward, net, device, seconds_of))
        return args.folder / "best.pt"
    if from_base:
        follow_nearest(net, state, training, args.init_from, team)

    # --- optimizers, and how far the run has come --------------------------------------------------------------------
    average = deepcopy(net).to(device).eval().requires_grad_(False)  # .to: as in step_cost.py
    optimizers = make_optimizers(net, lr=args.lr, muon=args.muon, weight_decay=args.weight_decay)
    fingerprint = validation_fingerprint(args, validation)
    progress = resume(last, state, args, net, average, optimizers, fingerprint) if last else begin(args)
    print(f"{models.family_name(args.model)}: {step_cost.cost(args, micro_batch_size, forward, net, device)}")
    if why := progress.ended(args):
        print(why)
        return args.folder / "best.pt"
    if args.precision == "bf16" and not precision.fast(device):
        print(f"{device} here multiplies bf16 no faster than fp32: leave MainArgs.precision at auto")
    run_metadata = {
        "family": models.family_name(args.model), "clips": clips, "validation_fingerprint": fingerprint,
        "bandwidth_hz": trained_for(material, args.augment),
    }
    first = team.rank == 0
    save = saver(args, run_metadata, net, average, optimizers) if first else lambda *_: None
    frozen = {i: validation[0, i] for i in range(team.rank, len(validation), team.size)}
    examples = [validation[0, i] for i in range(min(len(KINDS), len(validation)))]
    if args.entropy and not len(entropies(average, examples, device)):
        raise UserError(f"MainArgs.entropy: a {models.family_name(args.model)} net has no attention; leave it off")
    log = journal.Journal(args.folder, progress.step, args.steps) if first else journal.NoJournal()
    print(f"training on {device}, step {progress.step} to {args.steps}; curves: tensorboard --logdir {args.runs}")

    # --- the loop ----------------------------------------------------------------------------------------------------
    faults = Faults()
    started, saved = time.monotonic() - progress.seconds, time.monotonic()
    meter = journal.Meter(device, args.batch_size * args.data.segment_s)
    backward = Backward(net, device, micro_batch_size, compiled=args.compile)
    with closing(log), closing(mixtures(args, training, team, progress.step, device)) as source:
        for batches in meter.waiting(source):
            step = train_step(args, net, average, optimizers, forward, backward, batches, progress.step, team, stop)
            progress.step += 1
            faults.add(step, progress.step, args.lr)
            log.step(step.losses, faults.counts())
            if progress.step % journal.EVERY == 0:
                rates = meter.read()
                log.point("train", progress.step, step.curves(args.clip_norm) | faults.counts() | rates)
                log.pace(rates, args.steps - progress.step)
            validated = progress.step % args.valid_every == 0 or progress.step >= args.steps
            if validated:
                team.align(changed_by_steps(net, average, optimizers, device))
                sigma.refresh(average)
                values, estimates = validate(family, average, frozen, args, device, team)
                minutes = (time.monotonic() - started) / 60
                log_validation(log, args, progress, values | {"minutes": minutes}, examples, estimates, average, device)
                progress.seconds = 60 * minutes
                keep_best(args, progress, values["loss"], save, first)
                meter.restart()  # the speed is that of steps
            over, due = progress.ended(args), validated or progress.step % args.save_every == 0
            if over or step.asked_to_stop or due and time.monotonic() - saved >= args.save_s:
                progress.seconds = time.monotonic() - started
                save("last.pt", progress)
                meter.restart()
                saved = time.monotonic()
            if over or step.asked_to_stop:
                break
    team.gather(None)  # torchrun ends the others as soon as one leaves: not before the first one has saved
    faults.say()
    if not over:
        print(f"told to end at step {progress.step} of {args.steps}, saved; run it again to go on")
        sys.exit(EXIT_RESUMABLE)
    best = args.folder / "best.pt"
    speaker = min(speakers(args.data, [r.path for r in material.clean]))
    after = f'infer.py --checkpoint "{best}" --inputs "datasets/dirty/{speaker}/**/*" --out-dir "extracted/{args.name}"'
    if family.by_speaker:
        after = f'train.py --init-from "{best}", for a speaker who is none of these'
    print(f"best at step {progress.best_step}, validation loss {progress.best:+.2f}: {best}; next: python {after}")
    return best


# --- one step, and one validation ------------------------------------------------------------------------------------


class StepResult(NamedTuple):
    losses: dict[str, float]  # the loss and its parts
    lr: float
    grad_norm: float
    unread: int               # draws from recordings that could not be read
    asked_to_stop: bool

    @property
    def finite(self) -> bool:
        return math.isfinite(self.losses["loss"]) and math.isfinite(self.grad_norm)

    def curves(self, clip_norm: float) -> dict[str, float]:
        clip = min(1.0, clip_norm / max(self.grad_norm, 1e-12))
        return {**self.losses, "lr": self.lr, "grad_norm": self.grad_norm, "clip": clip}


def loss_function(args: MainArgs, family, device: torch.device):
    """forward(net, mixture [B, T], target [B, T], seeds [B], speakers [B]) -> scalar loss, its parts by name"""
    def forward(net: nn.Module, mixture: Tensor, target: Tensor, seeds: Tensor, speakers: Tensor | None = None):
        with precision.autocast(device, args.precision):
            return family.loss(told(family, net, speakers), mixture, target, args.loss, seeds)  # of net(mixture)
    return forward


def told(family, net: nn.Module, speakers: Tensor | None):
    """A net that is told which speakers to extract, where it is one for many."""
    return partial(net, speakers=speakers) if family.by_speaker else net


def train_step(
    args: MainArgs, net: nn.Module, average: nn.Module, optimizers: list, forward, backward: Backward,
    batches: list[dict], step: int, team: ddp.Team, stop: Stop,
) -> StepResult:
    """Forward, loss, backward, the sum over all processes, the optimizers' step. Without a finite loss and gradient the
    weights stay as they are."""
    lr = learning_rate(step, peak=args.lr, warmup=args.warmup, steps=args.steps)
    set_learning_rate(optimizers, lr)
    loss, parts = backward(forward, batches, args.batch_size)
    counts = torch.tensor([stop.asked, sum(batch["unread"].sum().item() for batch in batches)]).to(loss)
    numbers = team.total(gradients(net), torch.cat([counts, torch.stack([loss, *parts.values()])]))
    grad_norm = nn.utils.clip_grad_norm_(net.parameters(), args.clip_norm)
    grad_norm, asked, unread, loss, *named = torch.cat([grad_norm[None], numbers]).tolist()  # the one wait for a GPU
    losses = {"loss": loss, **dict(zip(parts, named, strict=True))}
    result = StepResult(losses, lr, grad_norm, round(unread), bool(asked))
    if result.finite:
        for optimizer in optimizers:
            optimizer.step()
        sigma.update(net)
        update_average(average, net, args.ema, step)
    return result


@torch.no_grad()
def validate(
    family, net, frozen: dict[int, dict], args: MainArgs, device, team: ddp.Team
) -> tuple[dict[str, float], list[Tensor]]:
    """The averaged net on the frozen mixtures, of which each process has its own: mean loss, SI-SDRi by kind, the
    estimate's level where the target is absent, both also of those under conditions. Also returns the first estimates,
    one of each kind."""
    values, estimates = {}, {}
    for i, item in frozen.items():
        mixture, target = item["mixture"][None].to(device), item["target"][None].to(device)
        asked = told(family, net, item["speaker"][None])
        estimate, kind = family.extract(asked, mixture), KINDS[i % len(KINDS)]
        if kind == "absent":
            name, value = "absent_db", relative_level(estimate=estimate, reference=mixture)
        else:
            name, value = f"{kind}_si_sdri_db", si_sdri(estimate=estimate, mixture=mixture, reference=target)
        name = f"conditions_{name}" if under_conditions(i) else name
        values[i] = {"loss": family.loss(asked, mixture, target, args.loss)[0].item(), name: value.item()}
        if i < len(KINDS):
            estimates[i] = estimate[0].cpu()
    everyones = ChainMap(*team.gather(values))
    by_name: dict[str, list[float]] = {}
    for i in sorted(everyones):
        for name, value in everyones[i].items():
            by_name.setdefault(name, []).append(value)
    first = ChainMap(*team.gather(estimates))
    return {name: float(np.mean(v)) for name, v in by_name.items()}, [first[i] for i in sorted(first)]


def log_validation(
    log, args: MainArgs, progress: Progress, values: dict[str, float], examples: list[dict], estimates: list[Tensor],
    average: nn.Module, device: torch.device,
):
    """Curves; sound and spectrograms of the first validation and of better ones."""
    log.point("valid", progress.step, values)
    if args.entropy:
        layers = entropies(average, examples, device)
        log.point("entropy", progress.step, {f"layer_{i}": value for i, value in enumerate(layers)})
    if log.wants_examples(values["loss"] < progress.best):
        log.examples(progress.step, dict(zip(KINDS, examples, strict=False)), estimates, args.model.sample_rate)
    scores = (f"{name} {value:+.2f}" for name, value in values.items() if name != "minutes")
    log.say(f"step {progress.step}: " + "  ".join(scores))


def changed_by_steps(net, average, optimizers, device: torch.device) -> list[Tensor]:
    """The tensors on the device that training steps change: weights, buffers, averages, moments."""
    states = (x for optimizer in optimizers for state in optimizer.state.values() for x in state.values())
    tensors = *net.parameters(), *net.buffers(), *average.parameters(), *average.buffers(), *states
    return [x for x in tensors if isinstance(x, Tensor) and x.device == device]


def entropies(net: nn.Module, items: list[dict], device: torch.device) -> list[float]:
    """The normalised entropy of every attention in the net, 0 to 1, on a batch of these items."""
    return entropy_by_layer(net, torch.stack([item["mixture"] for item in items]).to(device)).tolist()


# --- before the first step -------------------------------------------------------------------------------------------


def make_net(args: MainArgs, device: torch.device, last: Path | None) -> tuple[MainArgs, nn.Module, dict]:
    """The args, completed by what the checkpoint says that the net starts from; the net, with random weights, or those
    of `init_from`; the content of that checkpoint, or of `last` where the run goes on, {} where there is neither."""
    if models.family_of(args.model).by_speaker:
        args = replace(args, model=replace(args.model, n_speakers=len(args.data.clean)))
    if not last:
        args = replace(args, init_from=models.start_of(args.model, args.init_from))
    if start := last or args.init_from:
        args = replace(args, model=models.adapted(args.model, start))
    torch.manual_seed(args.seed)
    net = models.family_of(args.model).net(args.model).to(device)
    if last:
        state = models.same_net(last, args.model)
        args = replace(args, init_from=check_resumable(last, state, args, net))
        names = [[Path(name).name for name in clean] for clean in (args.data.clean, state["args"]["data"]["clean"])]
        if models.family_of(args.model).by_speaker and names[0] != names[1]:
            raise UserError("its speakers have other numbers; name MixtureArgs.clean in the order of before", last)
    else:
        state = checkpoint.load(start) if start else {}
        models.start_from(net, args.init_from)
    freeze(net, args.freeze)
    if args.compile and not layers_of(net):
        raise UserError(f"MainArgs.compile: a {models.family_name(args.model)} net has no layers for it; leave it off")
    return args, net, state


def follow_nearest(net: nn.Module, state: dict, training: MixtureDataset, path: str, team: ddp.Team):
    """Puts into the net what the net for many speakers, in a checkpoint's content, is for a new one: told to follow the
    mean of those whom the new one is most like."""
    _, many = models.averaged(state, path)
    numbers = None
    if team.rank == 0:  # one decides for all, as others could round to other speakers
        items = [training[0, i] for i in range(N_ITEMS)]
        mixture, target = (torch.stack([item[name] for item in items]) for name in ("mixture", "target"))
        numbers = nearest(many, mixture, target)
    numbers = team.gather(numbers)[0]
    net.load_state_dict(many.for_one(many.vectors.detach()[numbers].mean(0)).state_dict())
    named = ", ".join(str(n) for n in sorted(numbers))
    print(f"{path}: starts as the mean of {len(numbers)} of its {many.args.n_speakers} speakers, number {named}")


def make_data(
    args: MainArgs, clips_before: dict, team: ddp.Team
) -> tuple[Material, MixtureDataset, MixtureDataset, dict]:
    """The recordings; mixtures to train on, and to validate on; of every clean clip its seconds, and how many of them
    are held out. clips_before: the same of the checkpoint that this run starts from"""
    first, by_speaker = team.rank == 0, models.family_of(args.model).by_speaker
    with team.first_alone():
        material = find_material(args.data, index=Path(args.runs) / INDEX, progress=first)
        material = unpacked(material, Path(args.runs) / UNPACKED, 1e9 * args.unpack_gb, progress=first)
    valid_s = material.held_out(args.data, clips_before, by_speaker=by_speaker)
    drawn = partial(
        MixtureDataset, material, args.data, args.model.sample_rate, held=valid_s, by_speaker=by_speaker
    )
    conditions = replace(CONDITIONS, dereverb=args.augment.dereverb)
    training, validation = drawn(split="train", augmented=args.augment), drawn(split="valid", augmented=conditions)
    describe_material(material, validation)
    if first:
        for sentence in unlike_captures(args.data, material.clean):
            print(sentence)
    clips = {os.path.abspath(r.path): (r.seconds, valid_s.get(r.path, 0.0)) for r in material.clean}
    return material, training, validation, clips_before | clips


def validation_fingerprint(args: MainArgs, validation: MixtureDataset) -> str:
    """A digest of what a validation loss depends on apart from the weights: the recordings, wherever they are by now,
    how they are mixed, the loss, and how many steps a flow takes."""
    sources = [(s.recording.path.name, s.recording.frames, s.recording.rate, s.start, s.length)
               for kind in validation.sources for s in kind]
    flow_steps = getattr(args.model, "steps", None)
    everything = repr((sources, validation.args, validation.augment, args.loss, flow_steps))
    return hashlib.sha256(everything.encode("utf-8", "surrogateescape")).hexdigest()


def trained_for(material: Material, augmented: AugmentArgs) -> tuple[float, float]:
    """The lowest and the highest bandwidth of the mixtures that training makes, Hz."""
    reach = profile(material.clean).bandwidth_hz
    return min(reach, augmented.cutoff_hz[0] if augmented.p_band else reach), reach


def describe_material(material: Material, held_out: MixtureDataset):
    """What was found: files, minutes, rates, and what validation took of it."""
    for name, recordings in material._asdict().items():
        minutes = sum(r.seconds for r in recordings) / 60
        rates = ", ".join(f"{r} Hz" for r in sorted({r.rate for r in recordings})) or "none"
        print(f"{name:7}{len(recordings):6} files {minutes:8.1f} min  {rates}")
        for recording in recordings:
            for remark in recording.remarks:
                print(f"{recording.path}: {remark}")
    clean, *dirty = held_out.sources
    clean, dirty = (
        f"{sum(s.length for s in kind) / held_out.sample_rate / 60:.1f} min of {len(kind)}"
        for kind in (clean, sum(dirty, []))
    )
    print(f"held out for validation: {clean} clean recordings, {dirty} dirty ones")
    if not any(map(len, held_out.voices)):
        print(f"no dirty scene is named {held_out.args.voices!r}: items without the target use all dirty recordings")


def local_batch_size(args: MainArgs, team: ddp.Team) -> int:
    """Items of a step that one process makes."""
    if args.batch_size % (team.size * args.grad_accum_steps):
        turns = f" in {args.grad_accum_steps} turns (MainArgs.grad_accum_steps)" if args.grad_accum_steps > 1 else ""
        raise UserError(
            f"MainArgs.batch_size = {args.batch_size} cannot be shared by {team.size} processes{turns}: "
            f"give a multiple of {team.size * args.grad_accum_steps}"
        )
    return args.batch_size // team.size


def mixtures(
    args: MainArgs, training: MixtureDataset, team: ddp.Team, step: int, device: torch.device
) -> Iterator[list[dict]]:
    """This process's micro batches of every step, from one on without end."""
    n_items = local_batch_size(args, team)
    sampler = TrainingSampler(step, args.batch_size, args.valid_every, team.rank * n_items, n_items)
    workers = n_workers(device) if args.workers is None else args.workers
    n = args.grad_accum_steps
    return in_turns(Reported(training), sampler, n_items // n, n, workers=workers, device=device)


def planned_steps(args: MainArgs, state: dict, team: ddp.Team) -> int:
    """Returns how many steps a run has that is to last args.minutes. A new run has those that fit, by the time of this
    process's share of a batch. A run that goes on keeps its steps; where the minutes are others than before, it has as
    many a minute as so far. state: the content of the checkpoint that it goes on from, {} for none"""
    if not state:
        return steps_that_fit(replace(args, batch_size=local_batch_size(args, team)), args.minutes)
    if state["args"].get("minutes") == args.minutes:
        return state["args"]["steps"]
    return max(1, round(60 * args.minutes * state["step"] / max(1.0, state["seconds"])))


def steps_that_fit(args: MainArgs, minutes: float) -> int:
    """How many training steps this machine does in so many minutes; at least 1."""
    device = pick_device(args.device)
    args, net, _ = make_net(args, device, None)
    with redirect_stdout(None):  # the run itself will tell
        material, *_ = make_data(args, {}, ddp.Team())
    return max(1, round(60 * minutes / seconds_a_step(args, net, material, device)))


def seconds_a_step(args: MainArgs, net: nn.Module, material: Material, device: torch.device) -> float:
    """Of whole training steps of copies of the net, mixtures and all, by one process."""
    training = MixtureDataset(material, args.data, args.model.sample_rate, split="train", augmented=args.augment)
    net, average = (deepcopy(net).to(device) for _ in range(2))
    optimizers = make_optimizers(net, lr=args.lr, muon=args.muon, weight_decay=args.weight_decay)
    forward = loss_function(args, models.family_of(args.model), device)
    backward = Backward(net, device, args.batch_size // args.grad_accum_steps, compiled=args.compile)
    alone, stop = ddp.Team(), Stop()
    with closing(mixtures(args, training, alone, 0, device)) as source:
        return step_cost.seconds_a_step(
            (train_step(args, net, average, optimizers, forward, backward, batches, step, alone, stop)
             for step, batches in enumerate(source)),
            warm=2 * n_workers(device) if args.workers is None else 2 * args.workers,
        )


args = MainArgs(
    # edit here what differs from the defaults above, for example:
    # name="alice",
    # data=MixtureArgs(clean=("datasets/clean/alice",), dirty=("datasets/dirty/other",)),
    # model=models.PRESETS["fullband-base"],
    # steps=17_800,
)

if __name__ == "__main__":
    main(command_line(args, model=models.PRESETS))
