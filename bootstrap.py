"""Make a data set of the speaker from recordings in noise: extract, cut, score, accept what is good.

    python bootstrap.py --speaker alice                 # a dry run: what would be accepted, and what that promises
    python bootstrap.py --speaker alice --review True   # listen, and decide yourself where you like
    python bootstrap.py --speaker alice --accept True   # put it into datasets/clean/alice/round_1
    python bootstrap.py --speaker alice --undo round_1
    python bootstrap.py --speaker alice --export gpt-sovits srt

A round extracts datasets/dirty/alice with runs/alice/best.pt and cuts the estimates into clips. Remixes, whose targets
are known, teach a forest to predict the SI-SDR of a clip, and say how often it is right (calibration.py). What is there
already is not done again. docs/bootstrap.md says more.
"""

import hashlib
import math
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

import calibration
import infer
import models
import slicer
from dataset import KINDS
from extractor import (
    UserError,
    audio,
    check_counts,
    checkpoint,
    nonintrusive,
    page,
    perceptual,
    promise,
    require,
    review,
    rounds,
    script,
    slicing,
    tables,
    voice_formats,
)
from extractor.chunked import in_threads, pieces_at_once
from extractor.coding import coding_of
from extractor.device import pick_device
from extractor.files import content_hash, folder_lock
from extractor.script import command_line

STATE, CLIPS, REMIXES = "round.json", "clips.tsv", "remixes.tsv"  # in the folder of a round
HEARD = {"speaker": "speaker", "dnsmos": "dnsmos", "words_alike": "wer"}  # columns of CLIPS -> perceptual.MODULES
NOISE_DB = 0.1                       # of validation losses between nets that differ by their seed alone
FEW_S = 20                           # of held-out clips: a promise of less says little
SAVE_EVERY_S = 5                     # of work; a kill loses no more
OTHER_DEMANDS_DB = 8, 10, 12, 15, 18  # of good_db; it is said what they would accept


@dataclass(frozen=True)
class BootstrapArgs:
    speaker: str = "speaker"
    checkpoint: str = ""          # of train.py; "": runs/<speaker>/best.pt
    inputs: str = ""              # a glob, a folder or a file; "": datasets/dirty/<speaker>/**/*
    clean: str = ""               # accepted clips go to <clean>/round_<n>; "": datasets/clean/<speaker>
    work: str = "bootstrap"       # estimates, scores and the page of a round go to <work>/<speaker>/round_<n>
    good_db: float = 15.0         # SI-SDR of a good clip, at least
    other_db: float = -20.0       # nobody else is louder in a good clip in the speaker's pauses, over the speech
    share: float = 0.95           # of what is accepted so much is good,
    confidence: float = 0.95      # with this confidence
    perceptual: bool = True       # also how accepted clips sound: voice, DNSMOS, words; as far as installed
    n_remixes: int = 2400         # mixtures of known target to learn from
    min_s: float = 5.0            # of a clip
    max_s: float = 15.0
    audio_stream: int = 0         # the one to extract from where a film has several
    review: bool = False          # open the page to listen and to decide; what a person decides always counts
    accept: bool = False          # put the accepted clips among the clean ones
    undo: str = ""                # a round to take away from the clean ones: round_2
    export: tuple[str, ...] = ()  # lists of the promoted clips: gpt-sovits ljspeech hf lab srt rttm; see docs
    language: str = "en"          # of the texts in these lists
    device: str = "auto"          # auto, cpu, cuda, cuda:1
    seed: int = 0                 # of the remixes

    def __post_init__(self):
        if not self.speaker or Path(self.speaker).name != self.speaker or self.speaker == "..":
            raise UserError(f"BootstrapArgs.speaker = {self.speaker!r}: give a folder name, without a slash")
        for name in ("share", "confidence"):
            require(self, name, 0.5 <= getattr(self, name) < 1, "give a share, 0.5 to below 1")
        worst, best = calibration.WORST_DB, calibration.BEST_DB
        require(self, "good_db", worst < self.good_db < best, f"give more than {worst:g} and less than {best:g} dB")
        require(self, "other_db", math.isfinite(self.other_db), "give a level in dB")
        require(self, "seed", self.seed >= 0, "give 0 or more")
        check_counts(self, "n_remixes")
        least = promise.least_to_promise(self.share, self.confidence)
        require(self, "n_remixes", self.n_remixes >= 2 * least, f"give {2 * least} or more for such a promise")
        known = ", ".join(voice_formats.FORMATS)
        require(self, "export", {*self.export} <= voice_formats.FORMATS.keys(), f"give some of {known}")
        self.slicer_args(44100)

    @property
    def net(self) -> str:
        return self.checkpoint or f"runs/{self.speaker}/best.pt"

    @property
    def captures(self) -> str:
        return self.inputs or f"datasets/dirty/{self.speaker}/**/*"

    @property
    def clean_folder(self) -> Path:
        return Path(self.clean or f"datasets/clean/{self.speaker}")

    @property
    def folder(self) -> Path:
        return Path(self.work) / self.speaker

    @property
    def command(self) -> str:
        """The command of this call, without what it does at the end."""
        default, words = BootstrapArgs(), ["python bootstrap.py"]
        for name, value in asdict(replace(self, review=False, accept=False, undo="", export=())).items():
            if value != getattr(default, name):
                words.append(f"--{name.replace('_', '-')} " + (f'"{value}"' if isinstance(value, str) else str(value)))
        return " ".join(words)

    def slicer_args(self, sample_rate: int) -> slicer.SlicerArgs:
        return slicer.SlicerArgs(min_s=self.min_s, max_s=self.max_s, sample_rate=sample_rate)


class Capture(NamedTuple):
    """A recording of the speaker in the noise, and what was extracted of it."""

    mixture: audio.Recording
    estimate: audio.Recording
    content: str    # the hash of its file

    def cut(self, row: dict) -> tuple[np.ndarray, np.ndarray]:
        """Returns the mixture and the estimate of a clip. -> [T], [T]"""
        rate = self.estimate.rate

        def joined(recording: audio.Recording) -> np.ndarray:
            def read(start: int, n: int) -> np.ndarray:
                return audio.read(recording, start, n, rate)[:, None]
            return slicing.joined(read, rounds.pieces_of(row), rate)[:, 0]

        return joined(self.mixture), joined(self.estimate)


class Net(NamedTuple):
    extract: nonintrusive.Extract
    sample_rate: int
    state: dict     # the checkpoint's content
    sha256: str
    threads: int


def main(args: BootstrapArgs) -> list[str]:
    """A round, or its undoing. Returns a sentence for each recording that could not be used."""
    with folder_lock(args.folder):
        if args.undo:
            kept = rounds.undo(args.clean_folder, args.undo, args.folder / "undone")
            print(f"{args.undo} is no longer among the clean recordings; it lies in {kept}")
            return []
        if args.export:
            folder = args.folder / "export"
            print(voice_formats.export(args.clean_folder, folder, args.export, args.speaker, args.language))
            return []
        before = rounds.promoted(args.clean_folder)
        number = 1 + max(before, default=0)
        folder = args.folder / f"round_{number}"
        net = load(args)
        claim(folder, net, args)
        if number > 1:
            compare(args.folder / f"round_{number - 1}", net)
        captures, failures = extract(folder, args)
        clips = score_clips(folder, captures, net, args)
        remixes = score_remixes(folder, captures, clips, net, args)
        model = calibration.Calibration(remixes, other_db=args.other_db, share=args.share, confidence=args.confidence)
        kept, clean = model.keep(args.good_db), {}
        if clips:
            predict(clips, model)
            decide(clips, kept, before, review.decisions(folder), args)
            clean = listen(folder, clips, captures, net, args)
            write_page(folder, clips, captures, failures, net, args)
            save(folder / CLIPS, clips)
        report(clips, model, kept, args)
        report_sound(clips, clean)
        if clips and args.review:
            review.serve(folder)
            decide(clips, kept, before, review.decisions(folder), args)
            save(folder / CLIPS, clips)
        finish(folder, clips, captures, number, net, args)
    return failures


# --- the net and the folder of a round -------------------------------------------------------------------------------

def load(args: BootstrapArgs) -> Net:
    device = pick_device(args.device)
    net, family = models.load(args.net)
    net.to(device)

    @torch.inference_mode()
    def extract(mixture: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(np.ascontiguousarray(mixture, np.float32))[None].to(device)
        return family.extract(net, batch, 0)[0].cpu().numpy()

    state = checkpoint.load(args.net)
    if not state.get("clips"):
        raise UserError("does not say what was held out; give a checkpoint that train.py wrote", args.net)
    return Net(extract, net.args.sample_rate, state, checkpoint.sha256_of(args.net), pieces_at_once(device))


def claim(folder: Path, net: Net, args: BootstrapArgs):
    """Notes which net a round is of. What another net left of it is done anew, but a person's decisions stay."""
    before = tables.read_json(folder / STATE)
    if before and before.get("sha256") != net.sha256:
        print(f"{folder}: was begun with another net ({before.get('checkpoint')}), so it is done anew")
        for name in (CLIPS, REMIXES):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / "estimates", ignore_errors=True)
    elif not before and folder.exists() and any(folder.iterdir()):
        raise UserError("is no folder of a round; choose another BootstrapArgs.work", folder)
    noted = {key: net.state.get(key) for key in ("best", "validation_fingerprint")}
    tables.write_json(folder / STATE, {"checkpoint": args.net, "sha256": net.sha256} | noted)


def compare(before: Path, net: Net):
    """Says what the round before brought, by the frozen validation mixtures of human-made clips."""
    known = tables.read_json(before / STATE)
    if known.get("sha256") == net.sha256:
        print(f"the net is that of {before.name}: train on its clips first, or add recordings")
    elif known.get("validation_fingerprint") == net.state["validation_fingerprint"]:
        gained = known["best"] - net.state["best"]
        verdict = "worth a next one" if gained > NOISE_DB else "no more than chance, so further rounds will hardly help"
        print(f"since {before.name} the validation loss fell by {gained:+.2f} dB: {verdict}")


# --- extract, cut and score ------------------------------------------------------------------------------------------

def extract(folder: Path, args: BootstrapArgs) -> tuple[list[Capture], list[str]]:
    """Extracts what is not extracted yet. Returns the captures, each content once, and a sentence for each failure."""
    asked = infer.InferArgs(
        checkpoint=args.net, inputs=args.captures, out_dir=str(folder / "estimates"), audio_stream=args.audio_stream,
        page_s=0.0, device=args.device,
    )
    failures, captures = infer.main(asked), {}
    for source, out in infer.plan(asked).items():
        try:
            content, mixture = content_hash(source), audio.probe_mixture(source, args.audio_stream)
            captures.setdefault(content, Capture(mixture, audio.probe(out), content))
        except UserError as e:
            if not any(sentence.startswith(f"{source}:") for sentence in failures):
                failures.append(str(e))
    if not captures:
        raise UserError(f"{args.captures}: none of these recordings could be extracted")
    return [*captures.values()], failures


def plan_clips(capture: Capture, args: BootstrapArgs) -> list[slicing.Clip]:
    """Returns the clips of an estimate; none where it holds no speech."""
    asked = args.slicer_args(capture.estimate.rate)
    with audio.kept_open(capture.estimate), slicer.threads() as pool:
        hops = slicer.track_of(capture.estimate, asked, pool, tqdm(disable=True)).hops
    try:
        return slicing.plan_cuts(hops, slicer.find_threshold(capture.estimate, hops, asked), asked.limits).clips
    except UserError:
        return []


def score_clips(folder: Path, captures: list[Capture], net: Net, args: BootstrapArgs) -> list[dict]:
    """Returns a row for every clip of the estimates, with its scores. Those that are there are kept."""
    before, rows, todo = {row["clip"]: row for row in scored(folder / CLIPS)}, [], []
    for capture in captures:
        clips = plan_clips(capture, args)
        if not clips:
            print(f"{capture.mixture.path}: no clip of {args.min_s:g} to {args.max_s:g} s of the speaker in it")
        for clip in clips:
            pieces = " ".join(f"{start}-{end}" for start, end in clip.pieces)
            name = hashlib.sha256(f"{capture.content} {pieces}".encode()).hexdigest()[:12]
            times = {"start_s": clip.pieces[0][0], "end_s": clip.pieces[-1][1], "seconds": clip.length}
            rows.append({"clip": name, "recording": capture.mixture.path.as_posix(), "content": capture.content})
            rows[-1] |= {key: f"{n / net.sample_rate:.3f}" for key, n in times.items()} | {"pieces": pieces}
            if name in before:
                rows[-1] = before[name] | rows[-1]
            else:
                todo.append((rows[-1], capture))
    print(f"{len(rows)} clips in {len(captures)} recordings, {len(todo)} of them to score")

    def score(row: dict, capture: Capture):
        row |= calibration.scores_of(capture.cut(row)[0], net.extract, net.sample_rate)

    with ExitStack() as stack:
        for capture in captures:
            stack.enter_context(audio.kept_open(capture.mixture))
        work_through(score, todo, "scoring clips", net.threads, partial(save, folder / CLIPS, rows))
    return rows


def score_remixes(
    folder: Path, captures: list[Capture], clips: list[dict], net: Net, args: BootstrapArgs
) -> list[dict]:
    """Returns a row for every remix, with its scores and the truths. Those that are there are kept."""
    quiet = {capture.content: calibration.silences(capture.mixture, capture.estimate) for capture in captures}
    codings = {capture.content: coding_of(capture.mixture.path, args.audio_stream) for capture in captures}
    sets = calibration.remix_sets(net.state, net.sample_rate, quiet, [float(row["removed_db"]) for row in clips])
    held_s = sum(source.length for source in sets[calibration.OTHER].clean[0].sources) / net.sample_rate
    if held_s < FEW_S:
        few = f"only {held_s:.0f} s of clean clips were held out from training, so the promise rests on little"
        print(f"{few}; two minutes of clean clips or more hold out enough")
    silent = [(name, len(mixtures.games)) for name, mixtures in sets.items()]
    made_of = repr([args.seed, codings, silent, sets[calibration.OTHER].args, sets[calibration.OTHER].augment])
    key = hashlib.sha256(made_of.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    before = {row["remix"]: row for row in scored(folder / REMIXES)}
    plan = {f"{key}/{i}": (name, i) for name, i in calibration.remix_plan(sets, args.n_remixes)}
    rows = [before.get(remix) or {"remix": remix, "over": name} for remix, (name, _) in plan.items()]
    todo = [(row, plan[row["remix"]][1]) for row in rows if row["remix"] not in before]

    def score(row: dict, i: int):
        signals = calibration.remix(sets[row["over"]], (args.seed, i), codings.get(row["over"]))
        row |= {"kind": KINDS[i % len(KINDS)]}
        row |= calibration.scores_of(signals["mixture"], net.extract, net.sample_rate, signals["target"])

    work_through(score, todo, "scoring remixes", net.threads, partial(save, folder / REMIXES, rows))
    return rows


def listen(
    folder: Path, clips: list[dict], captures: list[Capture], net: Net, args: BootstrapArgs
) -> dict[str, list[float]]:
    """Puts into the rows how the accepted clips sound (HEARD), as far as that can be measured here. What is there is
    kept. Returns the same of clean clips that training held out."""
    accepted = [row for row in clips if row["decision"] == "accepted"]
    if not args.perceptual or not accepted:
        return {}
    enrolment, clean = calibration.clean_speech(net.state, net.sample_rate)
    ears = perceptual.Perceptual(net.sample_rate, enrolment)
    asked = {name: measure for name, measure in HEARD.items() if measure != "wer" or args.language == "en"}
    names = [name for name, measure in asked.items() if measure in ears.measures]
    if lacking := {name: perceptual.missing()[asked[name]] for name in asked if name not in names}:
        each = "; ".join(f"{name} ({packages})" for name, packages in lacking.items())
        print(f"not in the table, as packages of requirements-eval.txt are not installed: {each}")

    def hear(row: dict, capture: Capture):
        mixture, estimate = capture.cut(row)
        again = nonintrusive.shifted(mixture, net.extract, net.sample_rate) if "words_alike" in names else None
        found = ears.blind(estimate=estimate, again=again)
        row |= {name: f"{found.get(name, math.nan):.4g}" for name in names}

    of_content = {capture.content: capture for capture in captures}
    todo = [(row, of_content[row["content"]]) for row in accepted if not all(row.get(name) for name in names)]
    work_through(hear, todo, "listening to accepted clips", 1, partial(save, folder / CLIPS, clips))
    found = [ears.blind(estimate=x) for x in clean] if names else []
    return {name: [x[name] for x in found if name in x] for name in names}


def scored(path: Path) -> list[dict]:
    """Returns the rows of a table whose scores are those of this version."""
    return [row for row in tables.read(path) if row.keys() >= {*nonintrusive.NAMES}]


def save(path: Path, rows: Sequence[dict]):
    """Writes the rows that have their scores."""
    done = [row for row in rows if row.keys() >= {*nonintrusive.NAMES}]
    tables.write(path, dict.fromkeys(name for row in done for name in row), done)


def work_through(function: Callable, items: list[tuple], what: str, threads: int, save: Callable[[], None]):
    """Calls the function on all items, in threads, and saves now and then."""
    saved = time.monotonic()
    with tqdm(total=len(items), desc=what, leave=False, dynamic_ncols=True) as bar:
        for _ in in_threads(function, items, threads):
            bar.update()
            if time.monotonic() > saved + SAVE_EVERY_S:
                save()
                saved = time.monotonic()
    if items:
        save()


# --- predict and decide ----------------------------------------------------------------------------------------------

def predict(clips: list[dict], model: calibration.Calibration):
    """Puts into the rows what is predicted; sorts them, the best first."""
    for row, *values in zip(clips, *model.predict(clips).values(), strict=True):
        row |= {f"predicted_{name}": f"{value:.2f}" for name, value in zip(calibration.PREDICTED, values, strict=True)}
    clips.sort(key=lambda row: -float(row["predicted_si_sdr_db"]))


def decide(
    clips: list[dict], kept: promise.Promise, before: dict[int, list[dict]], by_person: dict[str, bool],
    args: BootstrapArgs,
):
    """Puts into the rows the decision, who decided, and why a clip is refused."""
    for row in clips:
        row["decided_by"], row["reason"] = "calibration", ""
        if (number := rounds.round_of(row, before)) is not None:
            row["reason"] = f"in round_{number}"
        elif row["clip"] in by_person:
            row["decided_by"], row["reason"] = "person", "" if by_person[row["clip"]] else "person"
        elif float(row["predicted_other_db"]) > args.other_db:
            row["reason"] = "somebody else"
        elif float(row["predicted_si_sdr_db"]) < kept.threshold_db:
            row["reason"] = "SI-SDR"
        row["decision"] = "refused" if row["reason"] else "accepted"


def finish(
    folder: Path, clips: list[dict], captures: list[Capture], number: int, net: Net, args: BootstrapArgs
):
    """Promotes what is accepted, if told so; else says how."""
    accepted = [row for row in clips if row["decision"] == "accepted"]
    if args.accept and accepted:
        of_content = {capture.content: capture for capture in captures}
        noted = {"checkpoint": args.net, "sha256": net.sha256}
        found = (({k: v for k, v in row.items() if k != "sound"} | noted, of_content[row["content"]].cut(row)[1])
                 for row in accepted)
        where = rounds.promote(args.clean_folder, number, found, net.sample_rate)
        print(f"{len(accepted)} clips, {minutes(accepted):.1f} min, are in {where}")
        print(f"to take them away again: {args.command} --undo {where.name}")
    elif args.accept:
        print("nothing is accepted, so nothing is promoted")
    elif clips:
        print(f"to look at and listen to: {folder / 'index.html'}; to decide: {args.command} --review True")
        print(f"to promote {len(accepted)} clips: {args.command} --accept True")


# --- a person listens and decides ------------------------------------------------------------------------------------

def write_page(
    folder: Path, clips: list[dict], captures: list[Capture], failures: list[str], net: Net, args: BootstrapArgs
):
    """Writes the page of all clips, the best first. Sounds that are there are kept."""
    of_content = {capture.content: capture for capture in captures}
    items = []
    for row in tqdm(clips, "page", leave=False, dynamic_ncols=True):
        if not row.get("sound") or not (folder / row["sound"]).exists():
            mixture, estimate = of_content[row["content"]].cut(row)
            row["sound"] = page.add_sound(folder, {page.MIXTURE: mixture, "estimate": estimate}, net.sample_rate)
        path = Path(row["recording"])
        name = f"{path.parent.name}/{path.name} {row['start_s']} s"
        items.append({"id": row["clip"], "name": name, "seconds": float(row["seconds"])})
        items[-1] |= {key: row[key] for key in ("decision", "reason", "sound")}
    rows = [{name.removesuffix("_db"): float(row[name]) for name in ("predicted_si_sdr_db", "predicted_other_db")}
            for row in clips]
    page.write(folder, script.run_info(args, folder) | {
        "name": f"{args.speaker}, {folder.name}", "sample_rate": net.sample_rate, "failures": failures, "items": items,
        "systems": [{"name": page.MIXTURE}, {"name": "estimate", "source": args.net}],
        "scores": {page.MIXTURE: [{}] * len(items), "estimate": rows}, "decisions": review.decisions(folder),
    })


# --- what is said ----------------------------------------------------------------------------------------------------

def report(clips: list[dict], model: calibration.Calibration, kept: promise.Promise, args: BootstrapArgs):
    """What is promised, what is accepted of each recording, and what other demands would accept."""
    asked = f"{args.good_db:g} dB SI-SDR or more, nobody else above {args.other_db:g} dB in the speaker's pauses"
    half, most = np.percentile(model.errors_db(), [50, 90])
    print(f"\n{kept.all_good} of {len(model.features)} remixes are good: {asked}")
    print(f"the SI-SDR of half of them is predicted to {half:.1f} dB or better, of 90 % to {most:.1f} dB")
    if kept.accepted:
        which = f"of clips predicted to have {kept.threshold_db:.1f} dB or more at least {args.share:.0%} are good"
        print(f"promise: {which}, with {args.confidence:.0%} confidence ({kept.good} of {kept.accepted} remixes are)")
    else:
        least = promise.least_to_promise(args.share, args.confidence)
        why = f"it takes {least} remixes that look best and are all good"
        print(f"no promise can be kept ({why}), so nothing is accepted: lower good_db or share, or raise n_remixes")
    if clips:
        print(tables.markdown(["recording", "clips accepted", "minutes", "refused"], by_recording(clips)))
        names = calibration.PREDICTED
        ranked = model.ranked({name: calibration.table_of(clips, [f"predicted_{name}"])[:, 0] for name in names})
        costs = []
        for good_db in OTHER_DEMANDS_DB:
            threshold_db = model.keep(good_db).threshold_db
            there = [row for row, db in zip(clips, ranked, strict=True) if db >= threshold_db]
            costs.append(f"{good_db} dB: {len(there)} clips, {minutes(there):.1f} min")
        print("what a promise of another --good-db would accept: " + "; ".join(costs))


def report_sound(clips: list[dict], clean: dict[str, list[float]]):
    """How the accepted clips sound, beside clean ones: medians."""
    accepted = [row for row in clips if row["decision"] == "accepted"]
    told = []
    for name, others in clean.items():
        mine = [float(row.get(name, "nan")) for row in accepted]
        if mine := [x for x in mine if math.isfinite(x)]:
            beside = f" (clean clips {np.median(others):.2f})" if others else ""
            told.append(f"{name} {np.median(mine):.2f}{beside}")
    if told:
        print(f"of the accepted clips, in the median: {', '.join(told)}")


def by_recording(clips: list[dict]) -> list[list[str]]:
    rows = []
    for name in sorted({row["recording"] for row in clips}):
        mine = [row for row in clips if row["recording"] == name]
        accepted = [row for row in mine if row["decision"] == "accepted"]
        reasons = Counter(row["reason"] for row in mine if row["reason"]).most_common()
        why = ", ".join(f"{count} {reason}" for reason, count in reasons)
        rows.append([name, f"{len(accepted)} of {len(mine)}", f"{minutes(accepted):.1f} of {minutes(mine):.1f}", why])
    return rows


def minutes(rows: Sequence[dict]) -> float:
    return sum(float(row["seconds"]) for row in rows) / 60


args = BootstrapArgs(
    # edit here what differs from the defaults above, for example:
    # speaker="alice",
    # good_db=12.0,
)

if __name__ == "__main__":
    failures = main(command_line(args))
    sys.exit(1 if failures else 0)
