"""Pairs, systems and clean recordings that are none are refused in one sentence."""

import numpy as np
import pytest
import soundfile as sf
from scored import RATE, N, folder_of, put, put_list, put_pair, run

from evaluate import EvalArgs
from extractor import UserError

NOT_THE_SAME_NAMES = r"pairs: mixture/ and target/ must hold files of the same names"
NO_COLUMN = r"list\.tsv: no column `name` in line 2; separate columns by tabs$"


@pytest.mark.parametrize("change, sentence", [
    (lambda p: (p / "mixture/a.wav").rename(p / "mixture/c.wav"), rf"{NOT_THE_SAME_NAMES} \(a, c\)$"),
    (lambda p: [path.unlink() for path in p.glob("*/*.wav")], rf"{NOT_THE_SAME_NAMES} \(nothing there\)$"),
    (lambda p: p.rename(p.with_name("elsewhere")), rf"{NOT_THE_SAME_NAMES} \(nothing there\)$"),
    (lambda p: put(p / "target/b.wav", np.ones(N - 1)),
     rf"mixture/b\.wav: {N} samples, its target {N - 1}; they must be as long$"),
    (lambda p: put(p / "target/b.wav", np.ones(N), 48000),
     r"target/b\.wav: 48000 Hz, others 44100 Hz; all pairs must be of one rate$"),
    (lambda p: put_pair(p, "b", rate=48000),
     r"mixture/b\.wav: 48000 Hz, others 44100 Hz; all pairs must be of one rate$"),
    (lambda p: sf.write(p / "target/a.flac", np.zeros(N), RATE),
     r"target/a\.flac: a\.wav has the same name; a pair is one mixture, one target$"),
    (lambda p: (p / "mixture/a.wav").write_text("words"), r"mixture/a\.wav: no sound file that can be read"),
    (lambda p: (p / "list.tsv").write_text("file\tkind\na\tgame\n"), NO_COLUMN),
    (lambda p: (p / "list.tsv").write_text("name,kind\na,game\n"), NO_COLUMN),
    (lambda p: (p / "list.tsv").write_text("name\tkind\na.wav\tgame\nb\tgame\n"),
     r"list\.tsv: has no line for a; names have no suffix$"),
    (lambda p: (p / "list.tsv").write_bytes("name\tkind\na\tcafé\n".encode("latin-1")), r"list\.tsv: "),
    (lambda p: put_list(p, "a\tgame\t5\t", "b\tgame\tloud\t"), r"list\.tsv: snr_db = 'loud' of b is no number$"),
    (lambda p: put_list(p, "a\tgame\t5\t", "b\tgame\tnan\t"), r"list\.tsv: snr_db = 'nan' of b is no number$"),
    (lambda p: put_list(p, "a\tgame\t5\t", "b\tgame\t5\t", "a\tvoice\t0\t"),
     r"list\.tsv: a has a second line, 4; leave one$"),
], ids=[
    "one side only", "no files", "no folder", "another length", "another rate within a pair",
    "another rate between pairs", "two files of a name", "no sound", "no column name", "commas", "no line for a pair",
    "not UTF-8", "no number", "not finite", "two lines of a name",
])
def test_pairs_that_are_no_pairs_are_refused_in_one_sentence(change, sentence, half, pairs, tmp_path):
    change(pairs)
    with pytest.raises(UserError, match=sentence):
        run(tmp_path, half)
    assert not (tmp_path / "out").exists()


def test_no_system_is_refused_and_so_is_one_that_is_not_there_with_the_enhancers_there_are(pairs, tmp_path):
    with pytest.raises(UserError, match=r"EvalArgs\.systems: name a checkpoint, a folder of estimates, or"):
        EvalArgs(systems=())
    with pytest.raises(UserError, match=r"^demucs: no checkpoint, no folder .* known here \(deepfilternet3, rnnoise, "):
        run(tmp_path, "demucs")


@pytest.mark.parametrize("which", ["a folder", "a checkpoint", "an enhancer"])
def test_the_same_system_twice_is_refused(which, half, quarter, pairs, tmp_path):
    folder = folder_of(tmp_path, "good", lambda x, d: x)
    source = {"a folder": folder, "a checkpoint": half, "an enhancer": "quarter"}[which]
    for systems in ((source, source), (source, *{folder, half} - {source}, source)):
        with pytest.raises(UserError, match=f"^{source}: named twice among the systems; name it once$"):
            run(tmp_path, *systems)


@pytest.mark.parametrize("there, missing", [("b", "a, c, d, e, f and 2 more"), ("bcdefgh", "a")])
def test_a_folder_that_lacks_estimates_is_refused_with_their_names_before_another_system_works(
    there, missing, half, quarter, tmp_path
):
    for i, name in enumerate("abcdefgh"):
        put_pair(tmp_path / "pairs", name, seed=i, n=100)
    folder = folder_of(tmp_path, "good", lambda x, d: x[:100], there)
    with pytest.raises(UserError, match=f"good: no estimate of {missing}; files are matched by name$"):
        run(tmp_path, half, "quarter", folder)
    assert not (tmp_path / "out").exists()


def test_clean_folders_without_recordings_are_refused(half, pairs, tmp_path):
    (tmp_path / "clean").mkdir()
    for folder in (tmp_path / "clean", tmp_path / "nowhere"):
        with pytest.raises(UserError, match=f"{folder}: no recordings there; name folders of the speaker's clean rec"):
            run(tmp_path, half, clean=(str(folder),))


def test_a_folder_that_infer_py_extracted_into_is_refused(half, pairs, tmp_path):
    """infer.py refuses the reverse."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "checkpoint.json").write_text("{}")
    with pytest.raises(UserError, match=r"out: holds what infer\.py extracted.*choose another out_dir"):
        run(tmp_path, half)
