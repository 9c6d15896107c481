"""The page: one folder that opens in a browser without server or network. What it shows is in page.html."""

import base64
import hashlib
import html
import io
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile as sf
from tqdm import tqdm

from extractor import UserError, audio, checkpoint, tables
from extractor.files import atomic_write
from extractor.levels import HOP_S, background_and_speech, hop_of, hop_powers, smooth_levels, speech_threshold, to_db
from extractor.scoring import MEASURES

TEMPLATE = Path(__file__).with_name("page.html")
MIXTURE, TARGET = "mixture", "target"       # their names among the signals
SIGNALS = (MIXTURE, TARGET, "residual")     # which no system may have
FILES = "index_files"  # beside index.html, as browsers name it


def add_sound(folder: str | Path, signals: dict[str, np.ndarray], sample_rate: int) -> str:
    """Writes the signals of one item, [T] each, to a file that the page loads when they are wanted. Returns its place,
    which depends on what is heard: the page that is there keeps its own until it is written anew.

    FLAC of 16 bits inside a script, since a page that no server sent may load scripts, but nothing else. Signals that
    pass full scale are all turned down by the same factor.
    """
    scale = min(1.0, 1 / max(1e-9, *(float(np.abs(x).max(initial=0)) for x in signals.values())))
    coded = {}
    for key, x in signals.items():
        flac = io.BytesIO()
        sf.write(flac, np.round(x * scale * 32767).astype(np.int16), sample_rate, format="FLAC", subtype="PCM_16")
        coded[key] = base64.b64encode(flac.getvalue()).decode()
    key = hashlib.sha1(_script([scale, coded]).encode()).hexdigest()[:16]
    place = f"{FILES}/{key}.js"
    with atomic_write(Path(folder) / place, flush=False) as aside:
        aside.write_text(f"sound({_script([place, scale, coded])});\n", encoding="utf-8")
    return place


def write(folder: str | Path, report: dict):
    """Writes index.html for a report of evaluate.py or infer.py and removes sounds that it does not name."""
    report = report | {"measures": {name: m._asdict() for name, m in MEASURES.items()}}
    filled = {"{{title}}": html.escape(str(report["name"])), "{{data}}": _script(report)}
    page = re.sub("{{title}}|{{data}}", lambda gap: filled[gap[0]], TEMPLATE.read_text(encoding="utf-8"))
    with atomic_write(Path(folder) / "index.html") as aside:
        aside.write_text(page, encoding="utf-8", errors="replace")
    named = {item.get("sound") for item in report["items"]}
    for path in (Path(folder) / FILES).glob("*.js"):
        if f"{FILES}/{path.name}" not in named:
            path.unlink()


def _script(x) -> str:
    """Returns JSON that is safe inside a script element, whatever names are in it."""
    return tables.to_json(x).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


# --- of what infer.py extracted --------------------------------------------------------------------------------------

def show(
    outputs: dict[Path, Path], head: dict, out_dir: str, path_of_net: str, page_s: float, *, others: Iterable[str]
):
    """Writes the page of everything that infer.py has put into a folder, also in earlier calls. Of files that have not
    changed it keeps what it knows. outputs: recording -> estimate; head: of the report; path_of_net: the checkpoint;
    page_s: seconds that are shown of each; others: estimates of another net, by name, which are left out"""
    folder = Path(out_dir)
    name = checkpoint.name_of(path_of_net)
    if name in ("", *SIGNALS):
        name = "estimate"
    known = {path: shown for path, shown in shown_before(folder, name).items() if path not in {*others}}
    sources = {str(out.relative_to(folder)): source for source, out in outputs.items()}
    shown = []
    for path in sorted({*known, *sources}):
        if not (folder / path).exists():
            continue
        state = {"name": path, "changed": (folder / path).stat().st_mtime_ns, "page_s": page_s}
        state["audio_stream"] = head["args"].get("audio_stream", 0)
        item, *rows = known.get(path, ({},))
        if path in sources and not (state.items() <= item.items() and (folder / item["sound"]).exists()):
            try:
                item, *rows = look(sources[path], folder / path, state, folder, name)
            except UserError as e:
                tqdm.write(f"not on the page: {e}", file=sys.stderr)
                continue
        shown.append((item, *rows))
    if not shown:
        return
    items, of_mixture, of_estimate = zip(*shown, strict=True)
    systems = [{"name": MIXTURE}, {"name": name, "source": path_of_net}]
    report = head | {"systems": systems, "items": items, "scores": {MIXTURE: of_mixture, name: of_estimate}}
    tables.write_json(folder / "scores.json", report)
    write(folder, report)
    print(f"to look at and listen to: {folder / 'index.html'}")


def shown_before(folder: Path, name: str) -> dict[str, tuple[dict, dict, dict]]:
    """Returns file name -> what `look` returned for the page that is there; {} where that is of another net."""
    before = tables.read_json(folder / "scores.json")
    try:
        shown = zip(before["items"], before["scores"][MIXTURE], before["scores"][name], strict=True)
        return {item["name"]: (item, *rows) for item, *rows in shown}
    except (KeyError, TypeError, ValueError):
        return {}


def look(source: Path, out: Path, state: dict, folder: Path, name: str) -> tuple[dict, dict, dict]:
    """Returns an item of the page and the measures of recording and estimate; writes the sound of the loudest part."""
    mixture, estimate = audio.probe_mixture(source, state["audio_stream"]), audio.probe(out)
    rate, n_samples = estimate.rate, estimate.frames
    hop = hop_of(rate)

    def powers(recording: audio.Recording) -> np.ndarray:
        """Returns the power of every hop, read block by block. -> [L]"""
        starts, block = range(0, n_samples, 1000 * hop), 1000 * hop
        with audio.kept_open(recording):
            blocks = (audio.read(recording, start, min(block, n_samples - start), rate) for start in starts)
            return np.concatenate([hop_powers(x[:, None], hop)[0] for x in blocks])

    before, after = powers(mixture), powers(estimate)
    wide = min(len(after), max(1, round(state["page_s"] / HOP_S)))
    total = np.append(0, np.cumsum(after, dtype=np.float64))
    start = int(np.argmax(total[wide:] - total[:-wide])) * hop
    n = min(wide * hop, n_samples - start)
    levels = smooth_levels(after)
    speech = background_and_speech(levels)
    speech_s = HOP_S * float((levels > speech_threshold(*speech)).sum()) if speech else 0.0
    level_in, level_out = float(to_db(before.mean())), float(to_db(after.mean()))
    item = state | {"seconds": round(estimate.seconds, 3)}
    if n < n_samples:
        item |= {"start_s": start / rate, "end_s": (start + n) / rate}
    signals = {MIXTURE: audio.read(mixture, start, n, rate), name: audio.read(estimate, start, n, rate)}
    item["sound"] = add_sound(folder, signals, rate)
    return item, {"level_in": level_in}, {"level_change": level_out - level_in, "speech_s": speech_s}
