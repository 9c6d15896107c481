"""check.py over folders: what recordings share that they should not, what is fatal, what is printed and written."""

import csv
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr
from recordings import RATE, bursts, save, white
from speech import TALK, gain, talk

import check
from check import CheckArgs, main
from dataset import MixtureArgs
from extractor import UserError
from extractor.material import find_material, held_out


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
    main(folders)
    recordings = find_material(folders.data).split("valid", folders.data, RATE)[0]
    held = {str(source.recording.path): source.length / RATE for source in recordings}
    rows = [row for row in table_in(folders) if row["kind"] == "clean"]
    assert held and {row["path"]: float(row["valid_s"]) for row in rows if float(row["valid_s"])} == pytest.approx(held)
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
    clean = sorted(Path(folders.data.clean[0]).iterdir())
    for path in clean[1:]:
        path.unlink()
    assert main(folders) == []
    lengths = [(float(row["valid_s"]), float(row["seconds"])) for row in table_in(folders)]
    one, *dirty = lengths
    assert one[0] == pytest.approx(one[1] / 10)  # the end of what is left
    held = sorted(held for held, _ in dirty)  # of 68 s of short ones a tenth, the end of one
    assert held == pytest.approx([0, 0, sum(whole for _, whole in dirty) / 10])
    clean[0].write_text("no sound")
    unreadable, nothing = main(folders)
    assert unreadable.startswith(f"{clean[0]}: no sound file") and nothing.startswith("there is no clean recording")


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
