"""The page: one folder that opens in a browser without server or network. What it shows is in page.html."""

import base64
import hashlib
import html
import io
import re
from pathlib import Path

import numpy as np
import soundfile as sf

from extractor import tables
from extractor.files import whole
from extractor.scores import MEASURES

TEMPLATE = Path(__file__).with_name("page.html")
MIXTURE, TARGET = "mixture", "target"       # their names among the signals
SIGNALS = (MIXTURE, TARGET, "residual")     # which no system may have
FILES = "index_files"  # beside index.html, as browsers name it


def add_sound(folder: str | Path, signals: dict[str, np.ndarray], sample_rate: int) -> str:
    """The signals of one item, [T] each, in a file that the page loads when they are wanted. Returns its place, which
    depends on what is heard: the page that is there keeps its own until it is written anew.

    FLAC of 16 bits inside a script, since a page that no server sent may load scripts, but nothing else. Signals that
    pass full scale are all turned down by the same factor.
    """
    scale = min(1.0, 1 / max(1e-9, *(float(np.abs(x).max(initial=0)) for x in signals.values())))
    coded = {key: base64.b64encode(_flac(x * scale, sample_rate)).decode() for key, x in signals.items()}
    key = hashlib.sha1(_script([scale, coded]).encode()).hexdigest()[:16]
    place = f"{FILES}/{key}.js"
    with whole(Path(folder) / place, flush=False) as aside:
        aside.write_text(f"sound({_script([place, scale, coded])});\n", encoding="utf-8")
    return place


def _flac(x: np.ndarray, sample_rate: int) -> bytes:
    coded = io.BytesIO()
    sf.write(coded, np.round(x * 32767).astype(np.int16), sample_rate, format="FLAC", subtype="PCM_16")
    return coded.getvalue()


def write(folder: str | Path, report: dict):
    """index.html of a report as evaluate.py and infer.py make them; sounds that it does not name are removed."""
    report = report | {"measures": {name: m._asdict() for name, m in MEASURES.items()}}
    filled = {"{{title}}": html.escape(str(report["name"])), "{{data}}": _script(report)}
    page = re.sub("{{title}}|{{data}}", lambda gap: filled[gap[0]], TEMPLATE.read_text(encoding="utf-8"))
    with whole(Path(folder) / "index.html") as aside:
        aside.write_text(page, encoding="utf-8", errors="replace")
    named = {item.get("sound") for item in report["items"]}
    for path in (Path(folder) / FILES).glob("*.js"):
        if f"{FILES}/{path.name}" not in named:
            path.unlink()


def _script(x) -> str:
    """JSON that is safe inside a script element, whatever names are in it."""
    return tables.to_json(x).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
