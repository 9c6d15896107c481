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
import sys
import time
from collections import ChainMap
from collections.abc import Iterable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import models
from dataset import KINDS, Keys, Material, MixtureArgs, MixtureDataset, find_material, speakers
from extractor import UserError, check_counts, checkpoint, ddp, fit, journal, precision, scores, sigma
from extractor.attention import entropy_by_layer
from extractor.augment import AugmentArgs
from extractor.command import command_line
from extractor.device import pick_device
from extractor.files import claimed
from extractor.losses import LossArgs
from extractor.metrics import attenuation, si_sdri
from extractor.optim import held_by, hold, learning_rate, make_optimizers, set_learning_rate, update_average
from extractor.parallel import Backward, gradients
from extractor.stop import STATUS, Stop, outlive
from extractor.unpack import unpack

MAX_BAD = 10  # steps in a row without a finite loss and gradient before the run stops
UNPACKED = "unpacked"  # the folder among the runs where decoded recordings lie
INDEX = "recordings.json"  # the file among them that says what is known of recordings


@dataclass(frozen=True)
class MainArgs:
    name: str = "speaker"         # the run: everything goes to <runs>/<name>
    runs: str = "runs"
    data: MixtureArgs = field(default_factory=MixtureArgs)
    augment: AugmentArgs = field(default_factory=AugmentArgs)  # of mixtures to learn from; those of validation stay
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
        if not 0 <= self.seed < 2**63:
            raise UserError(f"MainArgs.seed = {self.seed}: give a number of 0 to 2^63 - 1")

    @property
    def folder(self) -> Path:
        return Path(self.runs) / self.name


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    best: float = math.inf   # validation loss
    best_step: int = 0
    kept: list[tuple[float, int]] = field(default_factory=list)  # loss and step of every step_<n>.pt, the best first
    seconds: float = 0.0
    compiled: bool | None = None  # whether that was found to be faster

    def ended(self, args: MainArgs) -> str:
        """Why there is nothing more to do, if so."""
        if self.step >= args.steps:
            return f"{args.folder} has its {self.step} steps already; raise MainArgs.steps to go on"
        if args.patience and self.step - self.best_step >= args.patience * args.valid_every:
            since = f"nothing better since step {self.best_step}"
            return f"{args.folder} ended early at step {self.step}, {since}; raise MainArgs.patience to go on"
        return ""


def main(args: MainArgs) -> Path:
    """Train to args.steps. Returns the path of the best checkpoint. Told to end by SIGTERM, it saves and exits with
    stop.STATUS."""
    device = pick_device(args.device, ddp.local_rank())
    make_folder(args.folder)
    with ddp.joined(device) as team, Stop() as stop:
        with claimed(args.folder) if team.rank == 0 and not args.dry_run else nullcontext():
            return run(args, device, team, stop)


def run(args: MainArgs, device: torch.device, team: ddp.Team, stop: Stop) -> Path:
    last = args.folder / "last.pt"
    if start := last if last.exists() else args.init_from:
        args = replace(args, model=models.refining(args.model, start))
    family = models.FAMILIES[models.family_name(args.model)]
    sample_rate = args.model.sample_rate

    # --- data --------------------------------------------------------------------------------------------------------
    first = team.rank == 0
    with team.first_alone():
        material = find_material(args.data, index=Path(args.runs) / INDEX, progress=first)
        material = unpacked(material, args, progress=first)
    held = material.held_out(args.data, checkpoint.load(start).get("held_out") if start else None)
    training = MixtureDataset(material, args.data, sample_rate, split="train", augmented=args.augment, held=held)
    held_out = MixtureDataset(material, args.data, sample_rate, split="valid", held=held)
    describe_material(material, training, held_out)

    # --- net, optimizer, and what an earlier run left ----------------------------------------------------------------
    torch.manual_seed(args.seed)
    net = family.net(args.model).to(device)
    if not last.exists():
        models.start_from(net, args.init_from)
    hold(net, args.freeze)
    average = deepcopy(net).to(device).eval().requires_grad_(False)  # .to: as in fit.py
    optimizers = make_optimizers(net, args)
    judged_by = fingerprint(args, held_out)
    progress = resume(args, net, average, optimizers, judged_by)
    here = share(args, team)  # items of a step that are this process's
    if args.dry_run:
        print(what_fits(args, family, net, device, here // args.accumulate))
        return args.folder / "best.pt"
    describe_cost(args, family, net, device, here // args.accumulate)
    if why := progress.ended(args):
        print(why)
        return args.folder / "best.pt"

    if args.compile and progress.compiled is None:
        progress.compiled = faster_compiled(args, family, net, device, here // args.accumulate, team)

    keys = Keys(progress.step, args.batch_size, args.valid_every, team.rank * here, here)
    loader = DataLoader(
        training, here // args.accumulate, sampler=keys, num_workers=args.workers, worker_init_fn=outlive,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # the loader seeds its workers; torch's own state is the net's
    )
    frozen = {i: held_out[0, i] for i in range(team.rank, len(held_out), team.size)}
    examples = [held_out[0, i] for i in range(min(len(KINDS), len(held_out)))]
    if args.entropy and not len(entropies(average, examples, device)):
        raise UserError(f"MainArgs.entropy: a {models.family_name(args.model)} net has no attention; leave it off")
    told = journal.Journal(args.folder, progress.step, args.steps) if first else journal.Silence()
    print(f"training on {device}, step {progress.step} to {args.steps}; curves: tensorboard --logdir {args.runs}")

    # --- the loop ----------------------------------------------------------------------------------------------------
    bad, skipped, unread = 0, 0, 0  # steps in a row; in all; draws from recordings that could not be read
    heard = False  # whether the journal has examples of this process
    started = time.monotonic() - progress.seconds
    meter = journal.Meter(device, args.batch_size * args.data.segment_s)
    used = {str(r.path): held.get(r.path, 0.0) for r in material.clean}  # what is held out of each, for later runs
    save = saver(args, net, average, optimizers, used, judged_by) if first else lambda *_: None
    backward = Backward(net, device, here // args.accumulate, compiled=args.compile and progress.compiled)
    batch_loss = loss_function(args, family, device)
    for batches in meter.waiting(in_turns(loader, args.accumulate)):
        lr = learning_rate(progress.step, args)
        set_learning_rate(optimizers, lr)
        loss, parts = backward(batch_loss, batches, args.batch_size)
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
        told.step(parts, counts)
        if progress.step % journal.EVERY == 0:
            clip = {"grad_norm": norm, "clip": min(1.0, args.clip_norm / max(norm, 1e-12))}
            told.point("train", progress.step, {**parts, "lr": lr, **clip, **counts, **meter.read()})
        validated = progress.step % args.valid_every == 0 or progress.step >= args.steps
        if validated:
            team.align(everything(net, average, optimizers, device))
            sigma.refresh(average)
            values, estimates = validate(family, average, frozen, args, device, team)
            told.point("valid", progress.step, values | {"minutes": (time.monotonic() - started) / 60})
            if args.entropy:
                layers = entropies(average, examples, device)
                told.point("entropy", progress.step, {f"layer_{i}": value for i, value in enumerate(layers)})
            if not heard or values["loss"] < progress.best:  # sound of every validation would fill a disk
                told.examples(progress.step, dict(zip(KINDS, examples, strict=False)), estimates, sample_rate)
            heard = True
            told.say(f"step {progress.step}: " + "  ".join(f"{k} {v:+.2f}" for k, v in values.items()))
            progress.seconds = time.monotonic() - started
            keep_best(args, progress, values["loss"], save, first)
        over = progress.ended(args)
        if validated or over or asked or progress.step % args.save_every == 0:
            progress.seconds = time.monotonic() - started
            save("last.pt", progress)
            meter.restart()  # the speed is that of steps
        if over or asked:
            break
    told.close()
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
        f'--checkpoint {best} --inputs "datasets/dirty/{speaker}/**/*" --out-dir extracted/{args.name}'
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
    attenuation where the target is absent. Also returns the first estimates, one of each kind."""
    values, estimates = {}, {}
    for i, item in frozen.items():
        mixture, target = item["mixture"][None].to(device), item["target"][None].to(device)
        estimate, kind = family.extract(net, mixture), KINDS[i % len(KINDS)]
        if kind == "absent":
            name, value = "absent_db", attenuation(estimate=estimate, mixture=mixture)
        else:
            name, value = f"{kind}_si_sdri_db", si_sdri(estimate=estimate, mixture=mixture, reference=target)
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


def everything(net, average, optimizers, device: torch.device) -> list[Tensor]:
    """All that steps change and that lies on the device."""
    states = (x for optimizer in optimizers for state in optimizer.state.values() for x in state.values())
    tensors = *net.parameters(), *net.buffers(), *average.parameters(), *average.buffers(), *states
    return [x for x in tensors if isinstance(x, Tensor) and x.device == device]


def entropies(net: nn.Module, items: list[dict], device: torch.device) -> list[float]:
    """Of every attention in the net, 0 to 1, on a batch of these items."""
    return entropy_by_layer(net, torch.stack([item["mixture"] for item in items]).to(device)).tolist()


# ---------------------------------------------------------------------------------------------------------------------
# checkpoints


def make_folder(folder: Path):
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"{folder}: cannot be written ({e.strerror}); choose another MainArgs.runs") from None


def saver(args: MainArgs, net, average, optimizers, held: dict[str, float], judged_by: str):
    def save(name: str, progress: Progress):
        sigma.refresh(average)
        checkpoint.save(args.folder / name, {
            "family": models.family_name(args.model),
            "args": asdict(args),
            "net": net.state_dict(),
            "ema": average.state_dict(),
            "optimizer": [optimizer.state_dict() for optimizer in optimizers],
            "schedule": {"steps": args.steps, "warmup": args.warmup, "lr": args.lr},
            **asdict(progress),
            "epoch": progress.step // args.valid_every,
            "held_out": held,
            "judged_by": judged_by,
            "rng": torch.get_rng_state(),
            "versions": {"torch": str(torch.__version__), "numpy": np.__version__},
        })
    return save


def keep_best(args: MainArgs, progress: Progress, loss: float, save, first: bool):
    """What a validation at this step came to: best.pt, and step_<n>.pt of the best few. What was best by another
    measure stays, as best_until_<step>.pt, and so do those that an earlier run was told to keep."""
    if loss < progress.best:
        best, until = args.folder / "best.pt", args.folder / f"best_until_{progress.best_step}.pt"
        if first and progress.best == math.inf and progress.best_step and best.exists() and not until.exists():
            best.replace(until)  # there already: a kill came before last.pt
        progress.best, progress.best_step = loss, progress.step
        save("best.pt", progress)
    before = {step for _, step in progress.kept}
    progress.kept = sorted([*progress.kept, (loss, progress.step)])[: args.keep if args.keep > 1 else 0]
    steps = {step for _, step in progress.kept}
    if progress.step in steps:
        save(f"step_{progress.step}.pt", progress)
    for step in before - steps if first and args.keep > 1 else ():
        (args.folder / f"step_{step}.pt").unlink(missing_ok=True)


def fingerprint(args: MainArgs, held_out: MixtureDataset) -> str:
    """Of what a validation loss depends on but the weights: the recordings, how they are mixed, the loss."""
    sources = [(str(s.recording.path), s.start, s.length)
               for pool in (held_out.clean, held_out.games, held_out.voices) for s in pool.sources]
    mixed = replace(args.data, clean=(), dirty=())  # their folders may be written in several ways
    everything = repr((sources, mixed, args.loss, getattr(args.model, "steps", None)))  # a flow's steps
    return hashlib.sha256(everything.encode("utf-8", "surrogateescape")).hexdigest()


def resume(args: MainArgs, net, average, optimizers, judged_by: str) -> Progress:
    """Take up last.pt, if there is one."""
    path = args.folder / "last.pt"
    if not path.exists():
        return Progress()
    state = checkpoint.load(path)
    if different := models.differences(path, state, args.model):
        raise UserError(
            f"{path}: a checkpoint of another net ({'; '.join(different)}); "
            "give this run another MainArgs.name, or move that folder away"
        )
    if "net" not in state:
        raise UserError(f"{path}: exported for extraction, training cannot go on from it; move it away")
    clean = state["args"]["data"]["clean"]
    if [*map(Path, clean)] != [*map(Path, args.data.clean)]:
        raise UserError(
            f"{path}: trained on {', '.join(clean)}, not {', '.join(args.data.clean)}; give this run another "
            f"MainArgs.name, with --init-from {path} to start from these weights"
        )
    if args.init_from not in ("", state["args"].get("init_from")):
        print(f"{path}: goes on from its own weights, not from MainArgs.init_from; another MainArgs.name starts there")
    anew = state.get("judged_by") != judged_by
    if anew:
        print(f"{path}: validation is of other mixtures or by another loss than before; what is best is judged anew")
    if (planned := state["schedule"]["steps"]) != args.steps:
        now = f"step {state['step']} of {args.steps}"
        print(f"{path}: planned for {planned} steps before; the learning rate goes on as at {now}")
    checkpoint.put(state["net"], net, path)
    checkpoint.put(state["ema"], average, path)
    freeze = state["args"].get("freeze", ())
    if held_by(net, freeze) != held_by(net, args.freeze):
        held = f"MainArgs.freeze = {' '.join(freeze) or 'nothing'}"
        raise UserError(f"{path}: trained with other parts held; give {held} again, or another MainArgs.name")
    if not isinstance(state["optimizer"], list) or len(state["optimizer"]) != len(optimizers):
        raise UserError(f"{path}: trained with or without Muon, unlike MainArgs.muon; change that, or MainArgs.name")
    for optimizer, saved in zip(optimizers, state["optimizer"], strict=True):
        told = [dict(group) for group in optimizer.param_groups]
        try:
            optimizer.load_state_dict(saved)
        except ValueError:
            raise UserError(f"{path}: trained by another version; give this run another MainArgs.name") from None
        for group, now in zip(optimizer.param_groups, told, strict=True):
            group.update(now)  # how to go on is said by args, not by what was said before
    torch.set_rng_state(state["rng"])
    found = Progress(**{f.name: state[f.name] for f in fields(Progress) if f.name in state})
    found.kept = [tuple(x) for x in found.kept]
    return replace(found, best=math.inf, best_step=found.step, kept=[]) if anew else found


# ---------------------------------------------------------------------------------------------------------------------
# before the first step


def unpacked(material: Material, args: MainArgs, *, progress: bool) -> Material:
    """Compressed recordings, decoded once for all runs, so that training need not wait for them."""
    folder = Path(args.runs) / UNPACKED
    everything = [recording for kind in material for recording in kind]
    everything = iter(unpack(everything, folder, 1e9 * args.unpack_gb, progress=progress))
    material = Material(*([next(everything) for _ in kind] for kind in material))
    if decoded := [r for kind in material for r in kind if r.unpacked]:
        size = sum(r.unpacked.stat().st_size for r in decoded) / 1e9
        print(f"{len(decoded)} compressed recordings lie decoded in {folder}, {size:.1f} GB; delete it at will")
    return material


def describe_material(material: Material, training: MixtureDataset, held_out: MixtureDataset):
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
        print(f"no dirty scene is named {training.args.voices!r}: items without the target use all dirty recordings")


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


def describe_cost(args: MainArgs, family, net: nn.Module, device: torch.device, batch_size: int):
    """Parameters, and what a step takes. Raises UserError where it does not fit."""
    try:
        step = measure_step(replace(args, batch_size=batch_size), family, net, device)
    except torch.OutOfMemoryError:
        raise UserError(
            f"{batch_size} items of {args.data.segment_s:g} s do not fit into the memory of {device}: give "
            f"MainArgs.accumulate = {2 * args.accumulate}, or a smaller batch_size; --dry-run True says what fits"
        ) from None
    print(
        f"{models.family_name(args.model)}: {sum(p.numel() for p in net.parameters()):,} parameters, "
        f"about {step.n_bytes(batch_size) / 2**30:.1f} GiB for batches of {batch_size} x {args.data.segment_s:g} s, "
        f"about {3600 / step.seconds / args.accumulate:,.0f} steps per hour on {device}"
    )


def faster_compiled(
    args: MainArgs, family, net: nn.Module, device: torch.device, batch_size: int, team: ddp.Team
) -> bool:
    """Whether a step of all processes is, by trial. Raises UserError where torch.compile fails."""
    from torch._dynamo.exc import TorchDynamoException  # which takes seconds

    trial = replace(args, batch_size=batch_size)
    try:
        taken = [measure_step(trial, family, net, device, compiled=compiled).seconds for compiled in (False, True)]
    except TorchDynamoException as e:
        why = str(e).strip().split("\n")[0]
        raise UserError(
            f"MainArgs.compile: torch.compile fails here ({why}); it needs a C++ compiler, or Triton: leave it off"
        ) from None
    plain, compiled = (sum(of_all) / team.size for of_all in zip(*team.gather(taken), strict=True))
    left_off = ": left off" if compiled >= plain else ""
    print(f"compiled, a step takes {compiled:.3f} s instead of {plain:.3f}{left_off}")
    return compiled < plain


def steps_that_fit(args: MainArgs, minutes: float) -> int:
    """As many training steps as this machine does in these minutes, by the time of one; at least 1."""
    family, device = models.FAMILIES[models.family_name(args.model)], pick_device(args.device)
    step = measure_step(args, family, family.net(args.model).to(device), device)
    return max(1, round(60 * minutes / step.seconds))


def what_fits(args: MainArgs, family, net: nn.Module, device: torch.device, batch_size: int) -> str:
    """A table: for items of half, all and twice the length what memory they take, how many fit into what is free, and
    how long training takes in batches of this size."""
    free, rows = fit.free_bytes(device), []
    for segment_s in (args.data.segment_s / 2, args.data.segment_s, 2 * args.data.segment_s):
        trial = replace(args, batch_size=batch_size, data=replace(args.data, segment_s=segment_s))
        try:
            step = measure_step(trial, family, net, device)
        except torch.OutOfMemoryError:
            rows.append([f"{segment_s:g}", "-", f"below {batch_size}", "-", "-", "-"])
            continue
        a_step = step.seconds * args.accumulate
        rows.append([
            f"{segment_s:g}", f"{step.item / 2**20:.0f}", str(step.largest_batch(free)), f"{a_step:.3f}",
            f"{segment_s * batch_size * args.accumulate / a_step:.0f}", f"{args.steps * a_step / 3600:.1f}",
        ])
    head = ["segment, s", "MiB an item", f"largest batch in {free / 2**30:.0f} GiB", f"s a step of {batch_size}",
            "audio s per s", f"hours for {args.steps:,} steps"]
    return scores.markdown(head, rows)


def measure_step(
    args: MainArgs, family, net: nn.Module, device: torch.device, *, compiled: bool = False
) -> fit.Step:
    shape = args.batch_size, round(args.data.segment_s * args.model.sample_rate)
    return fit.measure(net, loss_function(args, family, device), shape, device, compiled=compiled)


if __name__ == "__main__":
    main(command_line(MainArgs(
        name="speaker",
        data=MixtureArgs(
            clean=("datasets/clean/speaker",),
            dirty=("datasets/dirty/other",),
        ),
        model=models.PRESETS["fullband-light"],
    ), model=models.PRESETS))
