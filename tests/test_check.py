"""check.py: which flaws of a recording are named, what a set shares that it should not, what is printed and written."""

import csv
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr
from recordings import RATE, bursts, save, white
from speech import TALK, gain, talk

import check
from check import CheckArgs, examine, main
from dataset import MixtureArgs
from extractor import UserError
from extractor.material import check_clean, find_material, held_out
from extractor.profile import N_BANDS, bandwidth, spectrogram_db


def row_of(path: Path, kind: str = "clean", **fields) -> dict:
    return examine(path, kind, CheckArgs(**fields)).row


def flaws_of(path: Path, kind: str = "clean", **fields) -> str:
    row = row_of(path, kind, **fields)
    assert not row["fatal"]
    return row["flaws"]


# --- flaws of one recording ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["clean", "dirty"])
def test_what_cannot_be_read_is_fatal_and_says_why(kind, tmp_path):
    text, empty, nan, far = (tmp_path / name for name in ("text.wav", "empty.wav", "nan.wav", "far.wav"))
    text.write_text("no sound, just words")
    save(empty, np.zeros(0))
    save(nan, np.full(RATE, np.nan), subtype="FLOAT")
    save(far, np.append(bursts(5), 1e29), subtype="FLOAT")
    whys = "no sound file", "holds no samples", "NaN or infinite", r"a sample of 1e\+29 times full scale near"
    for path, why in zip((text, empty, nan, far), whys, strict=True):
        row = row_of(path, kind)
        assert list(row) == list(check.COLUMNS) and row["flaws"] == "" and re.match(why, row["fatal"])


SQUARE = np.tile(np.repeat([1, -1], 12), RATE)  # 2 s


@pytest.mark.parametrize("samples, silent", [
    (0.0 * SQUARE, True), (0.9e-3 * SQUARE, True), (1.1e-3 * SQUARE, False), (np.full(5 * RATE, 0.01), False),
    (np.append(np.zeros(10 * RATE), 1.5e-3 * SQUARE), False),   # -64 dBFS over all
    (np.append(np.zeros(9 * RATE), 1.5e-3 * SQUARE), False), (np.outer(SQUARE, (0.1, -0.1)), True),
], ids=["zero", "below", "above", "constant", "loud end", "end in a silent piece", "channels that cancel"])
def test_silence_is_fatal_in_a_clean_recording_as_for_train_py_and_a_flaw_in_a_dirty_one(samples, silent, tmp_path):
    path, sentence = save(tmp_path / "a.wav", samples, subtype="FLOAT"), "silent, nowhere above -60 dBFS"
    clean, dirty = row_of(path, "clean"), row_of(path, "dirty")
    assert (clean["fatal"], dirty["fatal"]) == (sentence * silent, "")
    assert (sentence in clean["flaws"], sentence in dirty["flaws"]) == (False, silent)
    with pytest.raises(UserError, match=sentence) if silent else nullcontext():
        check_clean(path)


@pytest.mark.parametrize("kind, seconds, flaws", [
    ("clean", 1.9, "only 1.9 s long"), ("clean", 2, ""), ("clean", 30, ""),
    ("clean", 31, "31 s long; slicer.py makes clips of it"),
    ("dirty", 3.9, "only 3.9 s long"), ("dirty", 4, ""), ("dirty", 31, ""),
])
def test_clips_outside_clip_s_are_named_and_dirty_recordings_shorter_than_a_segment(kind, seconds, flaws, tmp_path):
    path = save(tmp_path / "a.flac", bursts(seconds))
    assert flaws_of(path, kind) == flaws
    assert flaws_of(path, kind, clip_s=(0, 99), data=MixtureArgs(segment_s=1)) == ""


@pytest.mark.parametrize("other, share", [(None, 0.1), (0, 0.05), (-1, 0.1), (0.5, 0.05)])
def test_the_share_of_clipped_samples_is_that_of_all_channels(other, share, tmp_path):
    sine = np.sin(2 * np.pi * (np.arange(5 * RATE) + 0.5) / 240) / np.sin(0.45 * np.pi)    # 12 of 120 are above 1
    sine = sine if other is None else np.stack([sine, sine * other], axis=1)
    path = save(tmp_path / "a.wav", sine)
    assert row_of(path, "dirty")["clipped"] == pytest.approx(share)
    assert f"clipped: {share:.2%} of the samples are at full scale" in flaws_of(path, "dirty")


def test_what_touches_full_scale_hardly_ever_is_not_named_as_clipped(tmp_path):
    x = bursts(5)
    x[7000] = -1.0
    row = row_of(save(tmp_path / "a.wav", x))
    assert (row["clipped"], row["flaws"], row["peak_db"]) == (pytest.approx(1 / len(x)), "", pytest.approx(0, abs=1e-3))


def test_a_wav_file_that_is_cut_off_is_named_and_what_is_left_of_it_counts(tmp_path):
    path = save(tmp_path / "a.wav", bursts(10))
    path.write_bytes(path.read_bytes()[: 44 + 2 * 6 * RATE])
    row = row_of(path)
    assert (row["flaws"], row["seconds"]) == ("cut off at its end", 6)


CANCEL, OFFSET = "its channels cancel each other; keep one of them", "a constant offset of 0.05 of full scale"


@pytest.mark.parametrize("gains, offset, flaws, silent", [
    ((1, -1), 0, CANCEL, True), ((1, -0.9), 0, CANCEL, False), ((1, 1), 0, "", False), ((1, 0), 0, "", False),
    ((1,), -0.05, OFFSET, False), ((1, 1), (0.05, -0.05), OFFSET, False), ((1,), 0.015, "", False),
])
def test_channels_that_cancel_each_other_and_a_constant_offset_in_any_are_named(gains, offset, flaws, silent, tmp_path):
    row = row_of(save(tmp_path / "a.wav", bursts(5)[:, None] * gains + offset))
    assert row["flaws"] == flaws
    assert row["fatal"] == "silent, nowhere above -60 dBFS" * silent  # so it is for train.py


@pytest.mark.parametrize("kind, db, hiss_db", [("clean", 0, None), ("clean", -24, None), ("clean", 0, -70),
                                               ("dirty", 0, None), ("dirty", -24, None)])
def test_sound_that_once_had_a_rate_of_16_khz_is_named_at_any_level_and_under_a_hiss(kind, db, hiss_db, tmp_path):
    x = soxr.resample(bursts(6, 16000), 16000, 44100) * gain(db)
    x = x if hiss_db is None else x + white(6, hiss_db, 44100)[: len(x)]
    path = save(tmp_path / "a.wav", x, 44100)
    assert re.fullmatch(r"nothing above (7\.[0-9]|8\.[0-3]) kHz, at a rate of 44100 Hz", flaws_of(path, kind))
    assert flaws_of(path, kind, bandwidth_hz=7000) == ""


@pytest.mark.parametrize("kind", ["clean", "dirty"])
@pytest.mark.parametrize("db, rate, flaws", [
    (0, 44100, ""), (-24, 44100, ""), (0, 8000, "nothing above 4.0 kHz, at a rate of 8000 Hz"),
])
def test_sound_over_the_whole_band_is_named_where_its_rate_cannot_hold_more(kind, db, rate, flaws, tmp_path):
    row = row_of(save(tmp_path / "a.wav", bursts(6, rate) * gain(db), rate), kind)
    assert (row["fatal"], row["flaws"], row["bandwidth_hz"]) == ("", flaws, rate / 2)


@pytest.mark.parametrize("speech_db, background_db, named", [
    (-20, -70, False), (-44, -80, False), (-20, -45, False), (-20, -35, True), (-40, -55, True),
])
def test_the_levels_of_background_and_speech_are_right_to_2_db_and_15_db_between_them_are_noisy(
    speech_db, background_db, named, tmp_path
):
    path = save(tmp_path / "a.wav", bursts(10, speech_db=speech_db, background_db=background_db), subtype="PCM_24")
    row = row_of(path)
    assert row["noise_floor_db"] == pytest.approx(background_db, abs=2)
    assert row["snr_db"] == pytest.approx(speech_db - background_db, abs=2)
    assert bool(re.fullmatch(r"noisy: its background is only 1[3-7] dB under the speech", row["flaws"])) == named
    assert named or row["flaws"] == ""
    assert flaws_of(path, "dirty") == flaws_of(path, snr_db=10) == ""


def test_a_clean_recording_of_even_noise_has_nothing_that_stands_out(tmp_path):
    path = save(tmp_path / "a.wav", white(5, -30))
    row = row_of(path, bandwidth_hz=0)
    assert (row["flaws"], row["snr_db"]) == ("nothing stands out from its background", "")
    assert flaws_of(path, "dirty") == ""


def test_a_recording_is_read_in_blocks_with_the_same_result(monkeypatch, tmp_path):
    x = talk(*TALK[:8], rate=RATE)      # 13.3 s: 3 blocks of 4 s and the rest
    path = save(tmp_path / "a.wav", np.stack([x, x + 0.05], axis=1))
    whole = examine(path, "clean", CheckArgs())
    monkeypatch.setattr(check, "BLOCK_S", 4)
    parts = examine(path, "clean", CheckArgs())
    band_hz = RATE / 2 / N_BANDS
    assert parts.row.pop("bandwidth_hz") == pytest.approx(whole.row.pop("bandwidth_hz"), abs=2 * band_hz)
    for name, value in whole.row.items():
        expected = value if isinstance(value, str) else pytest.approx(value, rel=1e-5, abs=1e-6)
        assert parts.row[name] == expected, name
    found, again = ({*zip(sound.hashes.tolist(), sound.frames.tolist(), strict=True)} for sound in (whole, parts))
    assert len(found & again) > 0.7 * len(found) > 200


# --- how high a sound reaches ----------------------------------------------------------------------------------------


def test_band_levels_are_of_equal_bands_up_to_half_the_rate_every_half_second():
    t = np.arange(3 * 8192) / 8192      # bands of 64 Hz
    x = np.sin(2 * np.pi * 992 * t) * np.where(t < 1.5, 1, 0.1) + 0.5 * np.sin(2 * np.pi * 3680 * t)
    levels = spectrogram_db(x.astype(np.float32), 8192)
    assert levels.shape == (6, 64)      # windows of half a second begin at 0, 0.5, ... 2.5 s
    assert [int(band) for band in np.argmax(levels, axis=1)] == [15, 15, 15, 57, 57, 57]    # 960 - 1024, 3648 - 3712
    np.testing.assert_allclose(levels[:, 15] - levels[:, 57], [6.02] * 3 + [-13.98] * 3, atol=0.1)
    assert np.delete(levels, [15, 57], axis=1).max() < levels.max() - 60
    assert spectrogram_db(x[:100].astype(np.float32), 8192).shape == (1, 64)


def table_of(*bands: tuple[float, float, int]) -> np.ndarray:
    """For each (edge in Hz, dB, moments): bands up to the edge are so loud in so many of 100 moments; else -90 dB."""
    levels = np.full((100, 64), -90.0)
    for edge, db, moments in bands:
        levels[:moments, : edge // 100] = np.maximum(levels[:moments, : edge // 100], db)
    return levels


@pytest.mark.parametrize("bands, moving, expected", [
    ([(1000, -20, 80)], False, 1000),
    ([(1000, -20, 80), (5000, -74, 80)], False, 5000),      # 54 dB under the loudest
    ([(1000, -20, 80), (5000, -76, 80)], False, 1000),
    ([(1000, -20, 80), (5000, -40, 3)], False, 5000),       # now and then
    ([(1000, -20, 80), (5000, -40, 1)], False, 1000),       # a click
    ([(1000, -20, 80), (5000, -50, 100)], False, 5000),     # hiss
    ([(1000, -20, 80), (5000, -50, 100)], True, 1000),
    ([(1000, -20, 80), (3000, -39, 80), (5000, -50, 100)], True, 3000),     # moves by 11 dB
    ([(1000, -20, 80), (3000, -41, 80), (5000, -50, 100)], True, 1000),
    ([(6400, -20, 100)], True, 0),
])
def test_the_bandwidth_is_the_upper_edge_of_the_highest_band_that_is_loud_at_times(bands, moving, expected):
    assert bandwidth(table_of(*bands), 12800, moving=moving) == expected


# --- a set of recordings ---------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path) -> CheckArgs:
    """Five clean recordings of 10 s and three dirty ones of 22 s, fit to train on."""
    for i in range(5):
        save(tmp_path / f"clean/alice/src_{i}.wav", talk(*TALK[:6], rate=RATE, seed=i))
    for i in range(3):
        save(tmp_path / f"dirty/other/{i}.wav", talk(*TALK[:12], rate=RATE, seed=10 + i))
    data = MixtureArgs(clean=(str(tmp_path / "clean/alice"),), dirty=(str(tmp_path / "dirty/other"),))
    return CheckArgs(data, bandwidth_hz=0, out=str(tmp_path / "out" / "check.tsv"))


def clean_files(args: CheckArgs, *, valid: bool) -> list[Path]:
    """Those that train.py would use for training, or for validation."""
    paths = sorted(Path(args.data.clean[0]).iterdir())
    held = held_out(paths, [sf.info(path).duration for path in paths], args.data)
    return [path for path in paths if (path in held) == valid]


def samples_of(path: Path) -> np.ndarray:
    return sf.read(path)[0]


def shared(sentence: str) -> tuple[str, float, str, float, float, str]:
    """The two files, where it begins in them, how long it is, and what is wrong with that."""
    form = r"(.+) from ([\d.]+) s and (.+) from ([\d.]+) s are the same for ([\d.]+) s(?:: (.*))?"
    a, at_a, b, at_b, seconds, why = re.fullmatch(form, sentence.strip()).groups()
    return Path(a).name, float(at_a), Path(b).name, float(at_b), float(seconds), why


def table_in(args: CheckArgs) -> list[dict]:
    with open(args.out, newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f, delimiter="\t"))


def test_a_set_without_flaws_is_fit(folders, capsys):
    assert main(folders) == []
    printed = capsys.readouterr().out
    assert printed.endswith(f"\n{folders.out} has a row for every file. Fit to train on.\n")
    assert "Flaws" not in printed and "share" not in printed
    assert re.search(r"\| all clean \| 5 \| 0\.8 \| 0 \| 10\.2 \| [\d.]+ \| -7[0-2] \| [4-5]\d \| 24000 \|\n", printed)
    assert "\n\nclean: no flaws\ndirty: no flaws\n" in printed
    assert re.search(r"\| all dirty \| 3 \| 1\.1 \| 0 \| 22\.6 \|", printed)


def test_recordings_to_extract_that_are_unlike_the_clean_ones_are_named(folders, tmp_path, capsys):
    phone = soxr.resample(soxr.resample(talk(*TALK[:6], rate=RATE, seed=20), RATE, 8000), 8000, RATE)
    for name, samples in {"phone": phone, "same": talk(*TALK[:6], rate=RATE, seed=21)}.items():
        save(tmp_path / f"dirty/alice/{name}/src_0.wav", samples)
    assert main(folders) == []
    printed = capsys.readouterr().out
    (section,) = re.findall(r"Recordings to extract that are unlike the clean ones.*?(?=\n\n)", printed, re.S)
    assert re.search(r"phone/src_0\.wav: its sound ends at (3\.\d|4\.[01]) kHz, that of the clean recordings", section)
    assert "same/src_0.wav" not in section


COPIES = {
    "copy.flac": {}, "copy.mp3": {}, "copy.ogg": {}, "copy.opus": {"format": "OGG", "subtype": "OPUS"},
    "quiet.wav": {"db": -24}, "resampled.wav": {"rate": 16000}, "hi-res.wav": {"rate": 96000, "subtype": "PCM_24"},
    "antiphase.wav": {"gains": (1, -1)},
}


@pytest.mark.parametrize("name", COPIES)
def test_a_clean_recording_in_the_interference_is_fatal_however_it_was_stored(name, folders, capsys):
    form = {"rate": RATE, "db": 0, "gains": (1,)} | COPIES[name]
    rate, db, gains = form.pop("rate"), form.pop("db"), form.pop("gains")
    x = soxr.resample(samples_of(Path(folders.data.clean[0]) / "src_3.wav"), RATE, rate) * gain(db)
    save(Path(folders.data.dirty[0]) / name, np.outer(np.concatenate([white(5, -70, rate), x]), gains), rate, **form)
    sentence, = main(folders)
    a, at_a, b, at_b, seconds, why = shared(sentence)
    assert (a, b, why) == ("src_3.wav", name, "a clean recording in the interference")
    assert at_a == pytest.approx(0.4, abs=1) and at_b - at_a == pytest.approx(5, abs=0.1)
    assert seconds == pytest.approx(9.8, abs=1)
    printed = capsys.readouterr().out
    assert f"Training makes no sense before this is put right (1):\n  {sentence}\n" in printed
    assert "NOT fit to train on." in printed


def test_5_s_of_a_longer_recording_are_found_from_an_odd_sample_on(folders):
    x = samples_of(Path(folders.data.dirty[0]) / "1.wav")
    save(Path(folders.data.clean[0]) / "src_9.wav", x[round(13.7217 * RATE) :][: 5 * RATE])
    a, at_a, b, at_b, seconds, _ = shared(*main(folders))
    assert (a, b) == ("src_9.wav", "1.wav")
    assert at_b - at_a == pytest.approx(13.72, abs=0.1) and 4 < seconds <= 5


def test_a_clean_recording_for_training_is_not_to_be_one_for_validation_but_twice_in_training_it_may_be(folders):
    train, valid = clean_files(folders, valid=False), clean_files(folders, valid=True)
    save(train[1], samples_of(train[0]))
    assert main(folders) == []
    save(valid[0], samples_of(train[2]))
    a, at_a, b, at_b, seconds, why = shared(*main(folders))
    assert {a, b} == {valid[0].name, train[2].name} and why == "one is for training, one for validation"
    assert at_a == pytest.approx(at_b, abs=0.1) and seconds == pytest.approx(9.8, abs=1)


@pytest.mark.parametrize("at_s, noted", [(54, True), (0, False)], ids=["the last tenth", "the first"])
def test_dirty_recordings_are_told_without_harm_where_training_has_what_validation_has(at_s, noted, folders, capsys):
    one, other = (talk(*TALK, *TALK, rate=RATE, seed=seed)[: 60 * RATE] for seed in (20, 21))
    other[: 6 * RATE] = one[at_s * RATE :][: 6 * RATE]     # where all but the last tenth is for training
    for name, x in (("one.wav", one), ("other.wav", other)):
        save(Path(folders.data.dirty[0]) / name, x)
    assert main(folders) == []
    said = capsys.readouterr().out.partition("Interference that training and validation share (1):\n")[2]
    assert bool(said) == noted
    if noted:
        a, at_a, b, at_b, seconds, why = shared(said.partition("\n")[0])
        assert (a, b, why) == ("one.wav", "other.wav", None)
        assert at_a - at_b == pytest.approx(54, abs=0.1) and seconds == pytest.approx(6, abs=1.5)


def test_the_table_has_every_file_all_columns_and_what_train_py_holds_out(folders):
    clean, dirty = Path(folders.data.clean[0]), Path(folders.data.dirty[0])
    for i in range(4):
        save(clean / f"src_0_{i}.wav", bursts(3 + i))
    for i in range(9):  # promoted by bootstrap.py: never held out
        save(clean / "round_1" / f"src_{i}.wav", bursts(5))
    (clean / "round_1" / "bootstrap.tsv").touch()
    main(folders)
    sources = find_material(folders.data).split("valid", folders.data, RATE)[:2]
    held = {str(source.recording.path): source.length / RATE for kind in sources for source in kind}
    found = {row["path"]: float(row["valid_s"]) for row in table_in(folders) if float(row["valid_s"])}
    assert all(sources) and found == pytest.approx(held)
    shutil.rmtree(clean / "round_1")
    (clean / "src_7.wav").write_text("no sound")
    (dirty / "b").mkdir()
    (dirty / "b" / "c.ogg").write_text("no sound")
    assert len(main(folders)) == 2
    rows = table_in(folders)
    paths = [*sorted(clean.iterdir()), *sorted(dirty.rglob("*.*"))]
    assert [row["path"] for row in rows] == [path.as_posix() for path in paths]
    for row in rows:
        bad = row["fatal"].startswith("no sound file that can be read")
        assert bad == (Path(row["path"]).name in ("src_7.wav", "c.ogg")) and list(row) == list(check.COLUMNS)
        numbers = "seconds", "valid_s", "rate", "peak_db", "rms_db", "noise_floor_db", "snr_db"
        assert bad or all(row[k] for k in numbers)


def test_what_train_py_refuses_is_fatal(folders, tmp_path):
    save(tmp_path / "dirty/alice/a.wav", talk(*TALK[:6], rate=RATE, seed=30))
    own = replace(folders, data=replace(folders.data, dirty=(str(tmp_path / "dirty"),)))
    assert re.fullmatch(r".*dirty/alice: a dirty folder that holds the target speaker \(alice\); .*", *main(own))
    for path in Path(folders.data.clean[0]).iterdir():
        path.write_text("no sound")
    *unreadable, nothing = main(folders)
    assert len(unreadable) == 5 and all(": no sound file" in sentence for sentence in unreadable)
    assert nothing.startswith("there is no clean recording")


def test_a_missing_folder_and_a_table_that_cannot_be_written_are_one_sentence(folders, tmp_path):
    nowhere = replace(folders, data=replace(folders.data, clean=(str(tmp_path / "nowhere"),)))
    with pytest.raises(UserError, match="nowhere: there is no such folder of clean recordings"):
        main(nowhere)
    for out in (tmp_path, tmp_path / "clean/alice/src_0.wav/check.tsv"):
        with pytest.raises(UserError, match=r"cannot be written \(.+\); choose another"):
            main(replace(folders, out=str(out)))


def test_in_sum_it_says_how_many_recordings_have_which_flaw(folders, capsys):
    clean, dirty = (Path(names[0]) for names in (folders.data.clean, folders.data.dirty))
    loud = np.clip(bursts(5) * 40, -1, 1)
    for i in range(2):
        save(clean / f"src_{20 + i}.wav", loud * (1 if i else -1), 16000)
    save(clean / "src_30.wav", bursts(1))
    save(dirty / "zero.wav", np.zeros(5 * RATE))
    (dirty / "text.wav").write_text("no sound")
    main(replace(folders, bandwidth_hz=9000))
    out = capsys.readouterr().out
    assert "\nclean: 2 clipped, 2 narrow, 1 too short\ndirty: 1 unreadable, 1 silent\n" in out
    assert "| 16000, 24000 |" in out


def test_of_many_flaws_the_first_are_shown_and_the_others_counted(folders, monkeypatch, capsys):
    monkeypatch.setattr(check, "SHOWN", 3)
    assert main(replace(folders, clip_s=(15, 30))) == []
    printed = capsys.readouterr().out
    assert re.search(r"\nFlaws \(5\):\n(  .*src_[012]\.wav: only 10\.2 s long\n){3}  and 2 more\n", printed)
    assert [bool(row["flaws"]) for row in table_in(folders)] == [True] * 5 + [False] * 3


@pytest.mark.slow(20)
def test_the_status_is_1_where_training_makes_no_sense_and_0_else(folders):
    words = ("--data.clean", *folders.data.clean, "--data.dirty", *folders.data.dirty, "--out", folders.out)
    command = [sys.executable, "check.py", *words, "--bandwidth-hz", "0"]
    for status, verdict in ((0, "Fit"), (1, "NOT fit")):
        ended = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=Path(check.__file__).parent)
        assert (ended.returncode, "Traceback" in ended.stderr) == (status, False)
        assert ended.stdout.endswith(f"has a row for every file. {verdict} to train on.\n")
        (Path(folders.data.clean[0]) / "src_7.wav").write_text("no sound")
