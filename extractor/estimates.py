"""The folder of estimates that infer.py writes: which net and which recordings they are of, and what is done already.
Any number of processes may share the work in one folder."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from extractor import UserError, audio, checkpoint, tables
from extractor.files import SharedFolder, content_hash, shared_folder

CLAIM = "checkpoint.json"  # in the folder: which net and which recordings the estimates are of
SAVE_EVERY_S = 2           # of work, what was done; a kill loses no more of it


@dataclass
class Estimates:
    """The estimates of a folder, of one net, extracted by one set of options."""

    folder: Path
    shared: SharedFolder
    options: Mapping   # what an estimate depends on besides its recording and its net
    same: bool = True  # the run before had these options
    mine: dict = field(default_factory=dict)  # not noted yet: name of an estimate -> what it is of
    saved: float = field(default_factory=time.monotonic)

    @property
    def noted(self) -> dict:
        return tables.read_json(self.folder / CLAIM)

    def name(self, out: Path) -> str:
        return out.relative_to(self.folder).as_posix()

    def made_of(self, content: str, out: Path) -> dict:
        """What tells whether an estimate is complete, and of the recording of this content hash."""
        return {"content": content, "frames": audio.probe(out).frames, **self.options}

    def done(self, source: Path, out: Path, noted: Mapping) -> bool:
        """Whether a complete estimate of the recording, as it is now, is there already. noted: what is noted in the
        folder; where a run was killed before it noted this estimate, its time and its length decide."""
        of = self.mine.get(self.name(out)) or noted.get("sources", {}).get(self.name(out))
        try:
            if of:
                return of == self.made_of(content_hash(source), out)
            if not self.same or out.stat().st_mtime_ns < source.stat().st_mtime_ns:
                return False
            estimate, mixture = audio.probe(out), audio.probe(source, int(self.options["audio_stream"]))
            return estimate.frames == mixture.length(estimate.rate)
        except (UserError, OSError):  # damaged or not there, either of them
            return False

    def note(self, out: Path, content: str):
        """Notes what an estimate is of, on the disk within SAVE_EVERY_S of work, at the latest by `save`."""
        self.mine[self.name(out)] = self.made_of(content, out)
        if time.monotonic() > self.saved + SAVE_EVERY_S:
            self.save()

    def save(self):
        with self.shared.alone():
            noted = self.noted
            tables.write_json(self.folder / CLAIM, noted | {"sources": noted.get("sources", {}) | self.mine})
        self.saved = time.monotonic()


@contextmanager
def opened(
    folder: str | Path, path_of_net: str, outputs: list[Path], options: Mapping, *, overwrite: bool
) -> Iterator[Estimates]:
    """The estimates of a folder, for those that make these outputs. Raises UserError where some of them are of another
    net, where another process is at work there with another net or other options, or where the folder has scores."""
    with shared_folder(folder) as shared:
        estimates = Estimates(Path(folder), shared, options)
        now = {"path": path_of_net, "sha256": checkpoint.sha256_of(path_of_net), "options": dict(options)}
        if shared.first:
            claim(estimates, now, outputs, overwrite)
            shared.join()
        elif overwrite or any(estimates.noted.get(key) != now[key] for key in ("sha256", "options")):
            why = "to overwrite" if overwrite else "with another net or other options"
            raise UserError(f"{folder}: another process is at work there; wait for it {why}, or choose another out_dir")
        yield estimates


def claim(estimates: Estimates, now: dict, outputs: list[Path], overwrite: bool):
    """Notes in the folder which net its estimates are of from now on."""
    folder, this = estimates.folder, now["sha256"]
    if tables.read_json(folder / "scores.json").get("summary"):  # the page's own has none
        raise UserError(f"{folder}: holds what evaluate.py found, which the page would replace; choose another")
    before = estimates.noted
    others = before.get("others", {})  # estimates of other nets: name -> fingerprint
    if (last := before.get("sha256", this)) != this:
        others = dict.fromkeys((estimates.name(p) for p in audio.find(folder)), last) | others
    names = {estimates.name(out): out for out in outputs}
    stale = [out for name, out in names.items() if others.get(name, this) != this and out.exists()]
    if stale and not overwrite:
        other = f"has estimates of another net ({before.get('path')}, or what that was before)"
        raise UserError(f"{folder}: {other}; choose another out_dir, or overwrite them with --overwrite True")
    for out in stale:  # whatever is there afterwards is of this net, even after a kill
        out.unlink(missing_ok=True)
    others = {name: of for name, of in others.items() if of != this and name not in names}
    sources = before.get("sources", {}) if last == this else {}
    kept = {key: value for key, value in {"others": others, "sources": sources}.items() if value}
    estimates.same = before.get("options", now["options"]) == now["options"]
    tables.write_json(folder / CLAIM, now | kept)
