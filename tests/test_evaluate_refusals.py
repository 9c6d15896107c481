"""Pairs, systems and clean recordings that are none are refused in one sentence."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from scored import RATE, N, folder_of, put, put_list, put_pair, run

from evaluate import EvalArgs
from extractor import UserError


def only_one_side(folder: Path):
    (folder / "mixture" / "a.wav").rename(folder / "mixture" / "c.wav")


def another_length(folder: Path):
    put(folder / "target" / "b.wav", np.ones(N - 1))


def another_rate_within(folder: Path):
    put(folder / "target" / "b.wav", np.ones(N), 48000)


def another_rate_between(folder: Path):
    put_pair(folder, "b", rate=48000)


def nothing(folder: Path):
    for path in folder.glob("*/*.wav"):
        path.unlink()


def away(folder: Path):
    folder.rename(folder.with_name("elsewhere"))


def twice(folder: Path):
    sf.write(folder / "target" / "a.flac", np.zeros(N), RATE)


def no_sound(folder: Path):
    (folder / "mixture" / "a.wav").write_text("words")


def no_name(folder: Path):
    (folder / "list.tsv").write_text("file\tkind\na\tgame\n")


def commas(folder: Path):
    (folder / "list.tsv").write_text("name,kind\na,game\n")


def no_number(folder: Path):
    put_list(folder, "a\tgame\t5\t", "b\tgame\tloud\t")


def twice_in_the_list(folder: Path):
    put_list(folder, "a\tgame\t5\t", "b\tgame\t5\t", "a\tvoice\t0\t")


def not_finite(folder: Path):
    put_list(folder, "a\tgame\t5\t", "b\tgame\tnan\t")


def not_utf8(folder: Path):
    (folder / "list.tsv").write_bytes("name\tkind\na\tcafé\n".encode("latin-1"))


@pytest.mark.parametrize(
    "change, sentence",
    [
        (only_one_side, r"pairs: mixture/ and target/ must hold files of the same names \(a, c\)$"),
        (another_length, rf"mixture/b\.wav: {N} samples, its target {N - 1}; they must be as long$"),
        (another_rate_within, r"target/b\.wav: 48000 Hz, others 44100 Hz; all pairs must be of one rate$"),
        (another_rate_between, r"mixture/b\.wav: 48000 Hz, others 44100 Hz; all pairs must be of one rate$"),
        (nothing, r"pairs: mixture/ and target/ must hold files of the same names \(nothing there\)$"),
        (away, r"pairs: mixture/ and target/ must hold files of the same names \(nothing there\)$"),
        (twice, r"target/a\.flac: a\.wav has the same name; a pair is one mixture, one target$"),
        (no_sound, r"mixture/a\.wav: no sound file that can be read"),
        (no_name, r"list\.tsv: no column `name` in line 2; separate columns by tabs$"),
        (commas, r"list\.tsv: no column `name` in line 2; separate columns by tabs$"),
        (no_number, r"list\.tsv: snr_db = 'loud' of b is no number$"),
        (twice_in_the_list, r"list\.tsv: a has a second line, 4; leave one$"),
        (not_finite, r"list\.tsv: snr_db = 'nan' of b is no number$"),
        (not_utf8, r"list\.tsv: "),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_pairs_that_are_no_pairs_are_refused_in_one_sentence(change, sentence, half, pairs, tmp_path):
    change(pairs)
    with pytest.raises(UserError, match=sentence):
        run(tmp_path, half)
    assert not (tmp_path / "out").exists()


def test_without_a_system_there_is_nothing_to_score():
    with pytest.raises(UserError, match=r"EvalArgs\.systems: name a checkpoint, a folder of estimates, or"):
        EvalArgs(systems=())


def test_a_system_that_is_not_there_is_refused_with_the_enhancers_there_are(pairs, tmp_path):
    with pytest.raises(UserError, match=r"^demucs: no checkpoint, no folder .* known here \(deepfilternet3, rnnoise, "):
        run(tmp_path, "demucs")


@pytest.mark.parametrize("which", ["a folder", "a checkpoint", "an enhancer"])
def test_the_same_system_twice_is_refused(which, half, quarter, pairs, tmp_path):
    folder = folder_of(tmp_path, "good", lambda x, d: x)
    source = {"a folder": folder, "a checkpoint": half, "an enhancer": "quarter"}[which]
    for systems in ((source, source), (source, *{folder, half} - {source}, source)):
        with pytest.raises(UserError, match=f"^{source}: named twice among the systems; name it once$"):
            run(tmp_path, *systems)


def test_a_folder_that_lacks_estimates_is_refused_before_another_system_works(half, quarter, pairs, tmp_path):
    folder = folder_of(tmp_path, "good", lambda x, d: x, "b")
    with pytest.raises(UserError, match="no estimate of a; "):
        run(tmp_path, half, "quarter", folder)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_lacks_estimates_is_refused_with_their_names(tmp_path):
    for i, name in enumerate("abcdefgh"):
        put_pair(tmp_path / "pairs", name, seed=i, n=100)
    folder = folder_of(tmp_path, "good", lambda x, d: x[:100], "b")
    with pytest.raises(UserError, match="good: no estimate of a, c, d, e, f and 2 more; files are matched by name$"):
        run(tmp_path, folder)
    folder = folder_of(tmp_path, "good", lambda x, d: x[:100], "bcdefgh")
    with pytest.raises(UserError, match="good: no estimate of a; files are matched by name$"):
        run(tmp_path, folder)


def test_two_estimates_of_one_pair_are_refused(pairs, tmp_path):
    folder = folder_of(tmp_path, "good", lambda x, d: x)
    put(tmp_path / "good" / "more" / "b.wav", np.ones(N))
    with pytest.raises(UserError, match=r"good/b\.wav: b\.wav has the same name"):
        run(tmp_path, folder)


def test_clean_folders_without_recordings_are_refused(half, pairs, tmp_path):
    (tmp_path / "clean").mkdir()
    for folder in (tmp_path / "clean", tmp_path / "nowhere"):
        with pytest.raises(UserError, match=f"{folder}: no recordings there; name folders of the speaker's clean rec"):
            run(tmp_path, half, clean=(str(folder),))


def test_a_file_that_is_no_checkpoint_is_refused(pairs, tmp_path):
    (tmp_path / "best.pt").write_text("words")
    with pytest.raises(UserError, match=r"best\.pt: damaged, or no checkpoint"):
        run(tmp_path, str(tmp_path / "best.pt"))
