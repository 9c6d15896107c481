"""Lists of clips and what is said in them, as those who train voices expect them. docs/bootstrap.md has a table.

Every format is a function (folder, rows, speaker, language) that writes into the folder. A row has `name`, that of the
clip in wavs/ without its suffix, `text`, and the `recording`, `start_s` and `end_s` that it comes from.
"""

import csv
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from extractor import UserError, audio, perceptual, rounds, tables
from extractor.files import atomic_write

WAVS = "wavs"
TEXTS = "texts.json"  # what Whisper heard, by clip; it hears nothing twice
SAVE_EVERY_S = 5      # of hearing; a kill loses no more


def gpt_sovits(folder: Path, rows: Sequence[dict], speaker: str, language: str):
    """GPT-SoVITS: path|speaker|language|text in <speaker>.list."""
    lines = ("|".join([str(wav(folder, row).resolve()), plain(speaker), language, plain(row["text"])]) for row in rows)
    write_lines(folder / f"{speaker}.list", lines)


def ljspeech(folder: Path, rows: Sequence[dict], speaker: str, language: str):
    """LJ Speech: id|text|text in metadata.csv, beside wavs/."""
    lines = ("|".join([row["name"], plain(row["text"]), plain(row["text"])]) for row in rows)
    write_lines(folder / "metadata.csv", lines)


def hf(folder: Path, rows: Sequence[dict], speaker: str, language: str):
    """Hugging Face's audiofolder: file_name,transcription,speaker in wavs/metadata.csv."""
    with atomic_write(folder / WAVS / "metadata.csv") as aside, open(aside, "w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(["file_name", "transcription", "speaker"])
        writer.writerows([wav(folder, row).name, row["text"], speaker] for row in rows)


def lab(folder: Path, rows: Sequence[dict], speaker: str, language: str):
    """The Montreal Forced Aligner: the text of a clip in <clip>.lab beside it."""
    for row in rows:
        write_lines(wav(folder, row).with_suffix(".lab"), [plain(row["text"])])


def srt(folder: Path, rows: Sequence[dict], speaker: str, language: str):
    """Subtitles of each recording, on its own time line; where a text is empty, the speaker's name."""
    for name, mine in by_recording(rows).items():
        write_lines(folder / f"{name}.srt", cues([row | {"text": plain(row["text"]) or speaker} for row in mine]))


def rttm(folder: Path, rows: Sequence[dict], speaker: str, language: str):
    """Who speaks when in each recording, as tools for diarisation read it."""
    for name, mine in by_recording(rows).items():
        write_lines(folder / f"{name}.rttm", speaker_lines(mine, name, speaker))


def cues(rows: Sequence[dict]) -> Iterator[str]:
    """The cues of an SRT file."""
    for i, row in enumerate(rows, 1):
        yield f"{i}\n{clock(row['start_s'])} --> {clock(row['end_s'])}\n{plain(row['text'])}\n"


def speaker_lines(rows: Sequence[dict], recording: str, speaker: str) -> Iterator[str]:
    """The lines of an RTTM file. No name may have a space there."""
    for row in rows:
        start, end = float(row["start_s"]), float(row["end_s"])
        yield f"SPEAKER {word(recording)} 1 {start:.3f} {end - start:.3f} <NA> <NA> {word(speaker)} <NA> <NA>"


FORMATS: dict[str, Callable[[Path, Sequence[dict], str, str], None]] = {
    "gpt-sovits": gpt_sovits, "ljspeech": ljspeech, "hf": hf, "lab": lab, "srt": srt, "rttm": rttm,
}


def wav(folder: Path, row: dict) -> Path:
    return folder / WAVS / f"{row['name']}.wav"


def write_lines(path: Path, lines: Iterable[str]):
    with atomic_write(path) as aside:
        aside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="replace")


def plain(text: str) -> str:
    """Returns a text on one line, without the bars that separate fields."""
    return " ".join(text.replace("|", " ").split())


def word(name: str) -> str:
    return "_".join(name.split())


def clock(seconds: str | float) -> str:
    """Returns a time as SRT writes it: 01:02:03,450."""
    ms = round(1000 * float(seconds))
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"


def by_recording(rows: Sequence[dict]) -> dict[str, list[dict]]:
    """Returns the rows of each recording in order of time, by its scene and name; with a number where two are alike."""
    found: dict[str, list[dict]] = {}
    names: dict[str, str] = {}
    for row in rows:
        path = Path(row["recording"])
        name = f"{path.parent.name}_{path.stem}"
        if row["recording"] not in names:
            names[row["recording"]] = name if name not in found else f"{name}_{len(names)}"
        found.setdefault(names[row["recording"]], []).append(row)
    return {name: sorted(mine, key=lambda row: float(row["start_s"])) for name, mine in found.items()}


# --- the clips themselves, and what is said in them ------------------------------------------------------------------

def export(clean: Path, folder: Path, formats: Sequence[str], speaker: str, language: str) -> str:
    """Writes all promoted clips as WAV files of 24 bits, and lists of them. Clips that somebody deleted are left out.
    Returns a sentence about what was written. Raises UserError where there is none."""
    rows = [
        row | {"name": f"round_{number}_{Path(row['file']).stem}", "path": clean / f"round_{number}" / row["file"]}
        for number, clips in rounds.promoted(clean).items() for row in clips
    ]
    rows = [row for row in rows if row["path"].exists()]
    if not rows:
        raise UserError("has no rounds to export; promote one with --accept True", clean)
    hear, texts, saved, turned_down = transcriber(language), tables.read_json(folder / TEXTS), time.monotonic(), 0
    for row in tqdm(rows, "exporting", leave=False, dynamic_ncols=True):
        clip = audio.probe(row["path"])
        samples = audio.read(clip, 0, clip.frames, clip.rate)
        if (peak := float(np.abs(samples).max())) > 1:  # which 24 bits cannot hold
            samples, turned_down = samples / np.float32(peak), turned_down + 1
        audio.write(wav(folder, row), [samples], len(samples), clip.rate, subtype="PCM_24")
        key = f"{row['clip']} {row['sha256']}"
        if hear and key not in texts:
            texts[key] = hear(samples, clip.rate)
            if time.monotonic() > saved + SAVE_EVERY_S:
                tables.write_json(folder / TEXTS, texts)
                saved = time.monotonic()
        row["text"] = texts.get(key, "")
    tables.write_json(folder / TEXTS, texts)
    for name in formats:
        FORMATS[name](folder, rows, speaker, language)
    loud = f"; {turned_down} of them passed full scale and are turned down to it" if turned_down else ""
    return f"{len(rows)} clips as {', '.join(formats)} are in {folder}{loud}"


def transcriber(language: str) -> Callable[[np.ndarray, int], str] | None:
    """Returns what writes down speech, ([T], rate) -> text; None, and prints a sentence, where nothing that does so in
    this language is installed."""
    if language != "en":
        print(f"no Whisper for language {language!r} is installed: texts are empty")
    elif missing := perceptual.missing().get("wer"):
        print(f"texts are empty: to have them, pip install {missing}")
    else:
        ears: dict[int, perceptual.Perceptual] = {}

        def hear(samples: np.ndarray, rate: int) -> str:
            ears.setdefault(rate, perceptual.Perceptual(rate))
            return ears[rate].transcribe(ears[rate].to_16k(samples)).strip()
        return hear
    return None
