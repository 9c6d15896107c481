"""extractor/voice_formats.py: each as its readers read it."""

import csv
import re
from pathlib import Path

import pytest

from extractor import voice_formats
from extractor.voice_formats import FORMATS

ONE = "d/game one/a.m4a"
ROWS = [dict(zip(("name", "text", "recording", "start_s", "end_s"), values, strict=True)) for values in (
    ("round_1_src_0_0", "Hello | there,\nfriend", ONE, "65.5", "71.25"),
    ("round_1_src_0_1", 'She said "no"', ONE, "3725.001", "3730.0"),
    ("round_1_src_1_0", "", "d/other/a.flac", "0.0", "5.0"),
    ("round_2_src_0_0", "音声", "e/other/a.flac", "1.0", "6.0"),
)]
SAID = ["Hello there, friend", 'She said "no"', "", "音声"]


@pytest.fixture
def made(tmp_path):
    def make(name: str) -> Path:
        FORMATS[name](tmp_path, ROWS, "alice b", "en")
        return tmp_path
    return make


def test_gpt_sovits_has_path_speaker_language_and_text_between_bars(made):
    rows = [line.split("|") for line in (made("gpt-sovits") / "alice b.list").read_text("utf-8").splitlines()]
    assert [len(row) for row in rows] == [4] * 4 and [row[3] for row in rows] == SAID
    assert rows[0][:3] == [str(made("srt").resolve() / "wavs/round_1_src_0_0.wav"), "alice b", "en"]


def test_ljspeech_has_id_text_and_text_between_bars_and_no_quotes(made):
    rows = [line.split("|") for line in (made("ljspeech") / "metadata.csv").read_text("utf-8").splitlines()]
    assert rows == [[row["name"], said, said] for row, said in zip(ROWS, SAID, strict=True)]


def test_audiofolder_is_a_csv_beside_the_clips(made):
    with open(made("hf") / "wavs/metadata.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert rows[1] == {"file_name": "round_1_src_0_1.wav", "transcription": 'She said "no"', "speaker": "alice b"}
    assert [row["transcription"] for row in rows] == [row["text"] for row in ROWS]


def test_a_lab_file_beside_each_clip_has_its_text(made):
    folder = made("lab") / "wavs"
    assert [(folder / f"{row['name']}.lab").read_text("utf-8") for row in ROWS] == [f"{said}\n" for said in SAID]


def test_subtitles_are_on_the_time_line_of_each_recording(made):
    folder = made("srt")
    assert sorted(path.name for path in folder.glob("*.srt")) == ["game one_a.srt", "other_a.srt", "other_a_2.srt"]
    assert (folder / "game one_a.srt").read_text("utf-8") == (
        "1\n00:01:05,500 --> 00:01:11,250\nHello there, friend\n\n2\n01:02:05,001 --> 01:02:10,000\nShe said \"no\"\n\n"
    )
    assert (folder / "other_a.srt").read_text("utf-8") == "1\n00:00:00,000 --> 00:00:05,000\nalice b\n\n"


def test_rttm_has_ten_fields_and_a_duration(made):
    lines = (made("rttm") / "game one_a.rttm").read_text().splitlines()
    assert lines[0] == "SPEAKER game_one_a 1 65.500 5.750 <NA> <NA> alice_b <NA> <NA>"
    assert all(re.fullmatch(r"SPEAKER \S+ 1 \d+\.\d+ \d+\.\d+ <NA> <NA> \S+ <NA> <NA>", line) for line in lines)


def test_times_are_rounded_to_milliseconds():
    assert [voice_formats.clock(s) for s in (0, 59.9996, 3599.9999)] == ["00:00:00,000", "00:01:00,000", "01:00:00,000"]
