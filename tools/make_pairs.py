"""Make test pairs: held-out clips of the speaker, mixed with scenes that training never hears.

    python -m tools.make_pairs --clean datasets/clean/alice --dirty datasets/dirty/other --scenes wesnoth voices/bob

The scenes are folders below the dirty folders, or recordings without their suffix. They are mixed into the pairs; all
other recordings are linked into <out_dir>/seen, for train.py's --data.dirty. The pairs lie in <out_dir>/pairs, a third
of them at each SNR and a quarter of each kind, for evaluate.py:

    python train.py --name plain --data.clean datasets/clean/alice --data.dirty runs/unseen/seen/other
    python evaluate.py --systems runs/plain/best.pt --pairs runs/unseen/pairs --out-dir results/plain

The clips are those that train.py holds out with the same seed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from dataset import KINDS, MixtureArgs, MixtureDataset, Pool
from extractor import UserError, audio, check_counts, tables
from extractor.material import Material, Source, find_material
from extractor.script import command_line


@dataclass(frozen=True)
class PairArgs:
    clean: tuple[str, ...] = ()   # folders as in MixtureArgs
    dirty: tuple[str, ...] = ()
    scenes: tuple[str, ...] = ()  # below the dirty folders, what training is not to hear
    out_dir: str = "runs/unseen"
    snr_db: tuple[float, ...] = (-5.0, 0.0, 5.0)
    seconds: float = 6.0
    n_each: int = 8               # pairs of every kind at every SNR
    sample_rate: int = 44100
    seed: int = 0                 # MixtureArgs.seed

    def __post_init__(self):
        check_counts(self, "n_each", "sample_rate")


def main(args: PairArgs):
    out_dir = Path(args.out_dir)
    unseen = split(args, out_dir / "seen")
    data = MixtureArgs(args.clean, args.dirty, max_shift=0.0, segment_s=args.seconds, seed=args.seed)
    clean, *dirty = find_material(data)
    material = Material(clean, *([r for r in recordings if r.path in unseen] for recordings in dirty))
    if not material.games or not material.voices:
        raise UserError(f"PairArgs.scenes: name games and {data.voices}, of each at least one recording")
    rows = []
    for snr_db in tqdm(args.snr_db, "pairs"):
        for i, item in enumerate(mixtures(material, replace(data, snr_db=(snr_db, snr_db)), args)):
            kind = KINDS[i % len(KINDS)]
            name = f"{kind}_{snr_db:+g}_{i // len(KINDS)}"
            for part in ("mixture", "target"):
                path, signal = out_dir / "pairs" / part / f"{name}.flac", item[part].numpy()
                audio.write(path, [signal], len(signal), args.sample_rate, subtype="PCM_24")
            rows.append({"name": name, "kind": kind, "snr_db": snr_db if kind != "absent" else ""})
    tables.write(out_dir / "pairs/list.tsv", rows[0], rows)
    print(f"{len(rows)} pairs: {out_dir / 'pairs'}; to train on: {out_dir / 'seen'}")


def split(args: PairArgs, seen: Path) -> set[Path]:
    """Returns the recordings of the scenes; links all others into a folder, each below the name of its dirty folder."""
    unseen, found = set(), set()
    for folder in map(Path, args.dirty):
        for path in audio.find(folder):
            inside = path.relative_to(folder)
            link = seen / folder.name / inside
            if named := {s for s in args.scenes if inside.with_suffix("").is_relative_to(s)}:
                unseen.add(path)
                found |= named
                link.unlink(missing_ok=True)  # of an earlier call with other scenes
            elif not link.is_symlink():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.resolve())
    if missing := sorted({*args.scenes} - found):
        raise UserError(f"PairArgs.scenes: nothing under {', '.join(args.dirty)} is called {', '.join(missing)}")
    return unseen


def mixtures(material: Material, data: MixtureArgs, args: PairArgs) -> Iterator[dict]:
    """Yields frozen mixtures, of the dirty recordings from end to end."""
    frozen = MixtureDataset(material, data, args.sample_rate, split="valid")
    whole = ([Source(r, 0, r.length(args.sample_rate)) for r in kind] for kind in (material.games, material.voices))
    frozen.games, voices = map(Pool, whole)
    frozen.voices = [voices]
    return (frozen[round(10 * data.snr_db[0]) % 1000, i] for i in range(len(KINDS) * args.n_each))


if __name__ == "__main__":
    main(command_line(PairArgs()))
