"""bootstrap.py: rounds of extracted clips, with a net that keeps what lies below 500 Hz: the speaker hums there."""

import errno
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import soundfile as sf
import torch
from conftest import RATE
from recordings import save
from tiny import alone_in_elsewhere, tiny_run

import bootstrap
import calibration
import models
import train
from bench import promise as promise_bench
from bootstrap import BootstrapArgs, main
from dataset import MixtureArgs, MixtureDataset
from extractor import UserError, checkpoint, promise, review, rounds, tables, voice_formats
from extractor.material import ROUND_TABLE, find_material

SPEAKS_S, PAUSE_S = 2.0, 2.5


def hum(seconds: float, hz: float = 300, pause_s: float = PAUSE_S) -> np.ndarray:
    """A voice that speaks, pauses, speaks: its pitch glides."""
    t = np.arange(round(seconds * RATE)) / RATE
    speaks = t % (SPEAKS_S + pause_s) < SPEAKS_S
    return 0.2 * np.sin(2 * np.pi * (hz * t + 5 * np.sin(t))) * speaks


def hiss(seconds: float, seed: int) -> np.ndarray:
    """Noise above 600 Hz."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * RATE)))
    spectrum[: round(600 * seconds)] = 0
    return np.fft.irfft(spectrum)


def low(mixture: torch.Tensor) -> torch.Tensor:
    spectrum = torch.fft.rfft(mixture)
    hz = torch.fft.rfftfreq(mixture.shape[-1], 1 / RATE)
    return torch.fft.irfft(spectrum * ((hz < 500) + 0.12 * (hz >= 500)), mixture.shape[-1])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A checkpoint as train.py writes it."""
    folder = tmp_path_factory.mktemp("trained")
    for path, x in {
        "clean/alice/set/src_0.wav": hum(40, 300, 0.3), "clean/alice/set/src_1.wav": hum(40, 270, 0.3),
        "dirty/other/game/src_0.wav": hiss(40, 9), "dirty/other/voices/bob.wav": hum(40, 900),
    }.items():
        save(folder / path, x, RATE)
    return train.main(replace(tiny_run(folder, folder / "runs"), steps=1, valid_every=1))


@pytest.fixture(scope="module", autouse=True)
def fake_net():
    """What keeps all below 500 Hz, in place of what is in a checkpoint; and forests of few trees."""
    net = SimpleNamespace(args=SimpleNamespace(sample_rate=RATE), bandwidth_hz=None, to=lambda device: None)
    family = SimpleNamespace(extract=lambda net, mixture, start: low(mixture))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load", lambda path: (net, family))
        patch.setitem(promise.FOREST, "n_estimators", 20)
        yield


def args_in(folder: Path, trained: Path) -> BootstrapArgs:
    return BootstrapArgs(
        "alice", str(trained), f"{folder}/dirty/**/*", f"{folder}/clean", f"{folder}/work", good_db=8.0, share=0.8,
        confidence=0.8, n_remixes=60, min_s=2.0, max_s=5.0, device="cpu",
        perceptual=False,
    )


@pytest.fixture(scope="module")
def dry_run(trained, fake_net, tmp_path_factory) -> Path:
    """Two captures in which the speaker hums under a hiss, one in which nobody does, and a dry run over them."""
    folder = tmp_path_factory.mktemp("dry_run")
    for name, x in {
        "game/src_0.wav": hum(40) + 0.7 * hiss(40, 0), "game/src_1.flac": hum(30, 250) + 0.5 * hiss(30, 1),
        "other <b>'/src_0.wav": 0.1 * np.sin(2 * np.pi * 900 * np.arange(20 * RATE) / RATE),
    }.items():
        save(folder / "dirty" / name, x, RATE)
    save(folder / "clean/set/src_0.wav", hum(6), RATE)
    main(args_in(folder, trained))
    return folder


@pytest.fixture
def args(dry_run, trained, tmp_path) -> BootstrapArgs:
    """The same in a folder of this test."""
    shutil.copytree(dry_run, tmp_path, dirs_exist_ok=True)
    return args_in(tmp_path, trained)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def sounds(folder: Path) -> dict[str, bytes]:
    """Samples and tables; a WAV file notes when it was written."""
    found = {path: x for path, x in content(folder).items() if not path.endswith(".wav")}
    return found | {str(p.relative_to(folder)): sf.read(p)[0].tobytes() for p in folder.rglob("*.wav")}


def table(args: BootstrapArgs, number: int = 1) -> list[dict]:
    return tables.read(args.folder / f"round_{number}" / bootstrap.CLIPS)


def accepted(args: BootstrapArgs, number: int = 1) -> list[dict]:
    return [row for row in table(args, number) if row["decision"] == "accepted"]


# --- a round ---------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_be_accepted_and_promotes_nothing(args, tmp_path, capsys):
    before = content(tmp_path / "clean")
    assert main(args) == [] and content(tmp_path / "clean") == before
    rows, printed = table(args), capsys.readouterr().out
    assert {Path(row["recording"]).name for row in accepted(args)} == {"src_0.wav", "src_1.flac"}
    assert not [row for row in rows if "other" in row["recording"]]
    assert "other <b>'/src_0.wav: no clip of 2 to 5 s of the speaker in it" in printed
    assert "only 8 s of clean clips were held out from training" in printed  # so that a promise says little
    assert "promise: of clips predicted to have" in printed and "at least 80% are good, with 80% confidence" in printed
    assert f"to promote {len(accepted(args))} clips: {args.command} --accept True" in printed
    levels = [float(row["predicted_si_sdr_db"]) for row in rows]
    assert levels == sorted(levels, reverse=True) and all(2 <= float(row["seconds"]) <= 5 for row in rows)
    page = (args.folder / "round_1/index.html").read_text()
    assert rows[0]["clip"] in page and "<b>" not in page


def test_accepted_clips_are_the_estimate_s_samples_with_their_origin(args, tmp_path):
    main(args)
    wanted = {row["clip"]: row for row in accepted(args)}
    main(replace(args, accept=True))
    folder = tmp_path / "clean/round_1"
    rows = tables.read(folder / ROUND_TABLE)
    assert {row["clip"] for row in rows} == wanted.keys() and len(rows) > 3
    assert {row["file"] for row in rows} == {path.name for path in folder.glob("*.wav")}
    for row in rows:
        assert row["sha256"] == checkpoint.sha256_of(args.checkpoint) and row["decided_by"] == "calibration"
        kept = ("recording", "start_s", "removed_db", "pieces")
        assert all(row[key] == wanted[row["clip"]][key] for key in kept)
        samples, rate = sf.read(folder / row["file"])
        recording, _ = sf.read(row["recording"])
        estimate = low(torch.from_numpy(recording)).numpy()
        (start, end), *others = rounds.pieces_of(row)
        assert rate == RATE and len(samples) / RATE == pytest.approx(float(row["seconds"]), abs=1e-3)
        n = min(end - start, round(1.5 * RATE))
        np.testing.assert_allclose(samples[50:n], estimate[start + 50 : start + n], atol=0.01)  # both ends ring
    numbers = {row["recording"]: row["file"].split("_")[1] for row in rows}
    assert sorted(numbers.values()) == ["0", "1"]


def test_how_clips_sound_is_in_the_table_beside_clean_ones_and_is_measured_once(args, monkeypatch, capsys):
    measured = []

    class Ears:
        """Its likeness is the loudest sample of the enrolment. It hears no words in the first clip."""

        def __init__(self, sample_rate, enrolment):
            self.measures, self.voice = ["speaker", "wer"], np.abs(enrolment).max()

        def blind(self, *, estimate, again=None):
            measured.append((estimate, again))
            words = {} if again is None or len(measured) == 1 else {"words_alike": 0.75}
            return {"speaker": self.voice, **words}

    monkeypatch.setattr(bootstrap.perceptual, "Perceptual", Ears)
    monkeypatch.setattr(bootstrap.perceptual, "missing", lambda: {"dnsmos": "speechmos"})
    listening = replace(args, perceptual=True)
    main(listening)
    rows, printed = table(args), capsys.readouterr().out
    assert "requirements-eval.txt are not installed: dnsmos (speechmos)" in printed
    assert "of the accepted clips, in the median: speaker 0.20 (clean clips 0.20), words_alike 0.75" in printed
    sure = [row for row in rows if row["decision"] == "accepted"]
    assert {row["speaker"] for row in sure} == {"0.2"} and "dnsmos" not in sure[0]
    assert sorted(row["words_alike"] for row in sure) == [*["0.75"] * (len(sure) - 1), "nan"]
    assert {(row["speaker"], row["words_alike"]) for row in rows if row["decision"] == "refused"} <= {("", "")}
    of_clips = [pair for pair in measured if pair[1] is not None]
    assert len(of_clips) == len(sure)
    for estimate, again in of_clips:  # low() moves with its input
        np.testing.assert_allclose(again[RATE:-RATE], estimate[RATE:-RATE], atol=0.05)
        assert not np.array_equal(estimate, again)
    measured.clear()
    main(listening)
    assert [pair for pair in measured if pair[1] is not None] == []
    main(replace(listening, language="de", accept=True))
    assert "speaker" in tables.read(args.clean_folder / "round_1" / ROUND_TABLE)[0]


def test_a_second_call_promotes_nothing_twice_and_new_captures_make_the_next_round(args, tmp_path, capsys):
    main(replace(args, accept=True))
    first = content(tmp_path / "clean")
    main(replace(args, accept=True))
    assert "the net is that of round_1" in capsys.readouterr().out and content(tmp_path / "clean") == first
    assert {row["reason"] for row in table(args, 2)} >= {"in round_1"} and not accepted(args, 2)
    sf.write(tmp_path / "dirty/game/src_2.wav", hum(20, 280) + 0.6 * hiss(20, 5), RATE)
    main(replace(args, accept=True))
    assert {row["recording"] for row in tables.read(tmp_path / "clean/round_2" / ROUND_TABLE)} == {
        f"{tmp_path}/dirty/game/src_2.wav"
    }


@pytest.mark.parametrize("killed", [False, True], ids=["at once", "by the next, where it was killed half way"])
def test_an_undo_restores_the_folder_to_the_byte_and_keeps_what_it_took_away(killed, args, tmp_path):
    before = content(tmp_path / "clean")
    main(replace(args, accept=True))
    there = sounds(tmp_path / "clean/round_1")
    if killed:
        with patch.object(rounds.shutil, "move", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
            main(replace(args, undo="round_1"))
    main(replace(args, undo="round_1"))
    assert content(tmp_path / "clean") == before and sorted(p.name for p in (tmp_path / "clean").iterdir()) == ["set"]
    assert sounds(tmp_path / "work/alice/undone/round_1") == there
    main(replace(args, accept=True))
    assert sounds(tmp_path / "clean/round_1") == there


def test_an_undo_of_what_is_no_round_or_has_a_later_one_is_refused(args, tmp_path):
    main(replace(args, accept=True))
    shutil.copytree(tmp_path / "clean/round_1", tmp_path / "clean/round_2")
    there = content(tmp_path / "clean")
    for name, why in (("round_1", "round_2 was made with its help; undo that first"), ("set", "no such round"),
                      ("round_3", r"no such round \(round_1, round_2 there\)"), ("../clean/round_2", "no such round")):
        with pytest.raises(UserError, match=why):
            main(replace(args, undo=name))
    assert content(tmp_path / "clean") == there


@pytest.mark.parametrize(("sha256", "best", "fingerprint", "sentence"), [
    ("a", -18.0, "v", "the net is that of round_1: train on its clips first"),
    ("b", -18.5, "v", "since round_1 the validation loss fell by +0.50 dB: worth a next one"),
    ("b", -18.05, "v", "since round_1 the validation loss fell by +0.05 dB: no more than chance"),
    ("b", -17.0, "v", "since round_1 the validation loss fell by -1.00 dB: no more than chance"),
    ("b", -30.0, "other", ""),
])
def test_a_later_round_says_what_the_one_before_brought(sha256, best, fingerprint, sentence, tmp_path, capsys):
    before = {"sha256": "a", "best": -18.0, "validation_fingerprint": "v"}
    tables.write_json(tmp_path / "round_1" / bootstrap.STATE, before)
    state = {"best": best, "validation_fingerprint": fingerprint}
    bootstrap.compare(tmp_path / "round_1", bootstrap.Net(None, RATE, state, sha256, 1))
    assert capsys.readouterr().out.startswith(sentence) if sentence else not capsys.readouterr().out


# --- a person --------------------------------------------------------------------------------------------------------


def test_what_a_person_decides_counts_whatever_is_predicted(args, tmp_path):
    main(args)
    best, worst = table(args)[0], table(args)[-1]
    for threshold in (8.0, 25.0):  # at 25 dB nothing else is accepted
        tables.write_json(args.folder / "round_1" / review.DECISIONS, {best["clip"]: False, worst["clip"]: True})
        main(replace(args, good_db=threshold))
        rows = {row["clip"]: row for row in table(args)}
        no, yes = rows[best["clip"]], rows[worst["clip"]]
        assert (no["decision"], no["reason"], no["decided_by"]) == ("refused", "person", "person")
        assert (yes["decision"], yes["decided_by"]) == ("accepted", "person")
    main(replace(args, good_db=25.0, accept=True))
    (row,) = tables.read(tmp_path / "clean/round_1" / ROUND_TABLE)
    assert row["clip"] == worst["clip"] and row["decided_by"] == "person"


def test_what_is_decided_on_the_page_is_in_the_table_when_it_is_closed(args, monkeypatch):
    def decides(folder):
        (row,) = table(args)[:1]
        tables.write_json(folder / review.DECISIONS, {row["clip"]: False})
    monkeypatch.setattr(review, "serve", decides)
    main(replace(args, review=True))
    assert table(args)[0]["reason"] == "person"


# --- killed, replaced, deleted, broken -------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["extract", "clips", "remixes", "page", "promote", "rename"])
def test_killed_at_any_step_and_run_again_the_end_is_the_same(where, args, tmp_path):
    args = replace(args, accept=True)
    main(args)
    wanted = sounds(tmp_path / "clean")
    if where in ("extract", "clips", "remixes", "page"):
        shutil.rmtree(tmp_path / "work")
    shutil.rmtree(tmp_path / "clean/round_1")

    module, name, after = {
        "extract": (bootstrap.infer, "extract_file", 1), "clips": (calibration, "scores_of", 2),
        "remixes": (calibration, "scores_of", 20), "page": (bootstrap.page, "add_sound", 2),
        "promote": (rounds.audio, "write", 4), "rename": (rounds.os, "rename", 0),
    }[where]
    real, calls = getattr(module, name), []

    def killed(*words, **named):
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return real(*words, **named)

    with patch.object(bootstrap, "SAVE_EVERY_S", 0), patch.object(module, name, killed):
        with pytest.raises(KeyboardInterrupt):
            main(args)
    assert content(tmp_path / "clean").keys() == {"set/src_0.wav"}
    with patch.object(calibration, "scores_of", wraps=calibration.scores_of) as scored:
        main(args)
    assert sounds(tmp_path / "clean") == wanted
    if where in ("page", "promote", "rename"):
        assert not scored.called  # all of that was there


def test_a_disk_that_is_full_is_one_sentence_and_leaves_the_clean_recordings_as_they_were(args, tmp_path):
    before = content(tmp_path / "clean")
    with patch.object(rounds.os, "rename", side_effect=OSError(errno.ENOSPC, "No space left on device")):
        with pytest.raises(UserError, match="round_1: cannot be written .No space left on device.; choose another"):
            main(replace(args, accept=True))
    assert content(tmp_path / "clean") == before


def test_a_capture_that_is_deleted_is_left_out_and_one_that_is_replaced_is_scored_anew(args, tmp_path):
    main(args)
    (tmp_path / "dirty/game/src_0.wav").unlink()
    sf.write(tmp_path / "dirty/game/src_1.flac", hum(15, 200) + 0.2 * hiss(15, 8), RATE)
    main(replace(args, accept=True))
    rows = tables.read(tmp_path / "clean/round_1" / ROUND_TABLE)
    assert {row["recording"] for row in rows} == {f"{tmp_path}/dirty/game/src_1.flac"}
    assert max(float(row["end_s"]) for row in rows) <= 15


def test_a_broken_capture_is_named_the_others_are_used_and_of_one_and_its_copy_each_clip_once(args, tmp_path):
    (tmp_path / "dirty/game/broken.wav").write_text("no sound")
    shutil.copy(tmp_path / "dirty/game/src_0.wav", tmp_path / "dirty/game/copy.wav")
    (sentence,) = main(replace(args, accept=True))
    assert "broken.wav" in sentence and len(tables.read(tmp_path / "clean/round_1" / ROUND_TABLE)) > 3
    assert len(table(args)) == len({row["clip"] for row in table(args)})


def test_an_unfinished_round_of_another_net_is_done_anew_but_decisions_stay(args, tmp_path, capsys):
    main(args)
    name = table(args)[0]["clip"]
    tables.write_json(args.folder / "round_1" / review.DECISIONS, {name: False})
    state = checkpoint.load(args.checkpoint)
    checkpoint.save(tmp_path / "other.pt", state | {"step": 99})
    capsys.readouterr()
    main(replace(args, checkpoint=f"{tmp_path}/other.pt"))
    assert "was begun with another net" in capsys.readouterr().out
    assert {row["clip"]: row["reason"] for row in table(args)}[name] == "person"


def test_mistakes_are_one_sentence(args, tmp_path, state):
    with alone_in_elsewhere(args.folder), pytest.raises(UserError, match="another process is at work there"):
        main(args)
    checkpoint.save(tmp_path / "exported.pt", {k: v for k, v in state.items() if k != "clips"})
    with pytest.raises(UserError, match="exported.pt: does not say what was held out; give a checkpoint that train.py"):
        main(replace(args, checkpoint=f"{tmp_path}/exported.pt"))
    lost = checkpoint.load(args.checkpoint)
    lost["args"] = lost["args"] | {"data": lost["args"]["data"] | {"clean": (f"{tmp_path}/gone",)}}
    checkpoint.save(tmp_path / "lost.pt", lost)
    with pytest.raises(UserError, match="gone: there is no such folder of clean recordings"):
        main(replace(args, checkpoint=f"{tmp_path}/lost.pt"))
    (tmp_path / "mine/alice/round_1").mkdir(parents=True)
    (tmp_path / "mine/alice/round_1/letter.txt").write_text("dear")
    with pytest.raises(UserError, match="round_1: is no folder of a round; choose another BootstrapArgs.work"):
        main(replace(args, work=f"{tmp_path}/mine"))
    assert (tmp_path / "mine/alice/round_1/letter.txt").read_text() == "dear"
    with pytest.raises(UserError, match="no recordings match"):
        main(replace(args, inputs=f"{tmp_path}/none/*"))


@pytest.mark.parametrize(("field", "value"), [
    ("speaker", ""), ("speaker", "../x"), ("share", 1.0), ("share", 0.2), ("confidence", 1.0), ("good_db", 40.0),
    ("other_db", float("nan")), ("n_remixes", 0), ("n_remixes", 7), ("seed", -1), ("min_s", 0.0),
])
def test_values_that_make_no_sense_are_refused(field, value):
    with pytest.raises(UserError, match=f"{field} = "):
        BootstrapArgs(**{"n_remixes": 200, field: value})


# --- training on what was promoted -----------------------------------------------------------------------------------


@pytest.fixture
def promoted(recordings, tmp_path) -> tuple[MixtureArgs, MixtureArgs]:
    """Args without and with a round, whose clips hum at 450 Hz."""
    shutil.copytree(recordings / "clean/alice", tmp_path / "clean/alice")
    without = MixtureArgs((f"{tmp_path}/clean/alice",), (f"{recordings}/dirty/other",), segment_s=0.5, max_shift=0.0)
    shutil.copytree(tmp_path / "clean/alice", tmp_path / "more/alice")
    (tmp_path / "more/alice/round_1").mkdir()
    t = np.arange(60 * RATE) / RATE
    for n in range(3):
        sf.write(tmp_path / f"more/alice/round_1/src_{n}_0.wav", 0.3 * np.sin(2 * np.pi * 450 * t), RATE)
    tables.write(tmp_path / "more/alice/round_1" / ROUND_TABLE, ["file"], [{"file": "src_0_0.wav"}])
    return without, replace(without, clean=(f"{tmp_path}/more/alice",))


def is_extracted(item: dict) -> bool:
    target = item["target"].numpy()
    return abs(np.abs(np.fft.rfft(target)).argmax() * RATE / len(target) - 450) < 3


def of(args: MixtureArgs, split: str) -> MixtureDataset:
    return MixtureDataset(find_material(args), args, RATE, split=split)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_extracted_clips_are_so_many_of_the_targets_however_long_they_are(share, promoted):
    args = replace(promoted[1], p_extracted=share, p_no_target=0.0)
    training = of(args, "train")
    assert np.mean([is_extracted(training[0, i]) for i in range(300)]) == pytest.approx(share, abs=0.09)


def test_validation_is_on_human_made_clips_and_the_same_with_and_without_a_round(promoted):
    without, with_round = (of(args, "valid") for args in promoted)
    for i in range(12):
        assert (without[0, i]["mixture"] == with_round[0, i]["mixture"]).all()
    assert [s.recording.path.name for s in with_round.sources[0]] == [s.recording.path.name for s in without.sources[0]]
    runs = [replace(tiny_run(Path(args.clean[0]).parents[1], Path("runs")), data=args) for args in promoted]
    assert len({train.validation_fingerprint(run, of(run.data, "valid")) for run in runs}) == 1


def test_without_a_round_the_draws_are_those_of_before(promoted):
    one, other = (of(replace(promoted[0], p_extracted=share), "train")[0, 3]["mixture"] for share in (0.0, 0.9))
    assert (one == other).all()


def test_extracted_clips_alone_are_no_clean_recordings(promoted, tmp_path):
    args = replace(promoted[1], clean=(f"{tmp_path}/more/alice/round_1",))
    with pytest.raises(UserError, match="round_1: has extracted clips alone; validation needs some that a person"):
        of(args, "train")


# --- for those who train voices --------------------------------------------------------------------------------------


def test_promoted_clips_are_exported_in_24_bits_with_what_is_heard_in_them(args, tmp_path, monkeypatch):
    main(replace(args, accept=True))
    heard = []
    def transcriber(language):
        return lambda x, rate: heard.append(len(x)) or f"{language} words"
    monkeypatch.setattr(voice_formats, "transcriber", transcriber)
    for _ in range(2):
        main(replace(args, export=("gpt-sovits", "srt"), language="de"))
    rows = tables.read(tmp_path / "clean/round_1" / ROUND_TABLE)
    folder = tmp_path / "work/alice/export"
    lines = (folder / "alice.list").read_text().splitlines()
    assert len(lines) == len(rows) == len(heard)  # heard once
    for line in lines:
        path, *others = line.split("|")
        assert others == ["alice", "de", "de words"] and sf.info(path).subtype == "PCM_24"
        origin = tmp_path / "clean/round_1" / Path(path).name.removeprefix("round_1_")
        np.testing.assert_allclose(sf.read(path)[0], sf.read(origin)[0], atol=2**-23)
    assert sorted(p.name for p in folder.glob("*.srt")) == ["game_src_0.srt", "game_src_1.srt"]
    (tmp_path / "clean/round_1" / rows[0]["file"]).unlink()  # somebody did not like it
    main(replace(args, export=("gpt-sovits",), language="de"))
    assert len((folder / "alice.list").read_text().splitlines()) == len(rows) - 1


def test_a_clip_above_full_scale_is_turned_down_as_a_whole_and_counted(args, tmp_path, capsys):
    main(replace(args, accept=True))
    path = next((tmp_path / "clean/round_1").glob("*.wav"))
    loud = 3 / np.abs(sf.read(path)[0]).max() * sf.read(path)[0]
    sf.write(path, loud, RATE, subtype="FLOAT")
    main(replace(args, export=("lab",), language="xx"))
    printed = capsys.readouterr().out
    assert "1 of them passed full scale" in printed and "no Whisper for language 'xx' is installed" in printed
    exported = sf.read(tmp_path / f"work/alice/export/wavs/round_1_{path.name}")[0]
    np.testing.assert_allclose(exported, loud / 3, atol=1e-6)


def test_an_export_of_nothing_or_to_nothing_is_refused(args, tmp_path):
    with pytest.raises(UserError, match="clean: has no rounds to export; promote one with --accept True"):
        main(replace(args, export=("srt",)))
    with pytest.raises(UserError, match="export = .*: give some of gpt-sovits, ljspeech, hf"):
        replace(args, export=("mp3",))


# --- bench/promise.py ------------------------------------------------------------------------------------------------


def test_the_bench_counts_what_a_promise_would_accept_of_pairs_and_how_many_are_good(args, tmp_path, capsys):
    """Three pairs like the remixes, one whose noise the net keeps, so that it only looks good, and one without the
    speaker."""
    main(args)
    t = np.arange(7 * RATE) / RATE
    rumble = 0.15 * np.sin(2 * np.pi * 150 * t)
    pairs = [(hum(7, 290 + n, 0.3), 0.7 * hiss(7, 20 + n)) for n in range(3)]
    pairs += [(hum(7, 300, 0.3), rumble), (0 * t, hiss(7, 30))]
    for n, (target, interference) in enumerate(pairs):
        save(tmp_path / f"pairs/mixture/{n}.wav", target + interference, RATE)
        save(tmp_path / f"pairs/target/{n}.wav", target, RATE)
    asked = promise_bench.BenchArgs(
        f"{args.folder}/round_1", f"{tmp_path}/pairs", ("as recorded",), (8.0, 25.0), share=0.8, confidence=0.8,
        device="cpu",
    )
    found = promise_bench.main(asked)
    assert found == {"as recorded": {8.0: (4, 3, 3), 25.0: (0, 0, 0)}}
    assert "| 4, 3, 3 | 0, 0, 0 |" in capsys.readouterr().out
    with pytest.raises(UserError, match="holds no remixes; run bootstrap.py first"):
        promise_bench.main(replace(asked, folder=f"{tmp_path}"))
    state = tables.read_json(args.folder / "round_1" / bootstrap.STATE)
    tables.write_json(args.folder / "round_1" / bootstrap.STATE, state | {"sha256": "other"})
    with pytest.raises(UserError, match=r"best\.pt: is no longer the net that the remixes are of; run bootstrap.py"):
        promise_bench.main(asked)
    with pytest.raises(UserError, match="conditions: moon: give some of as recorded, low-pass 20 kHz"):
        promise_bench.main(replace(asked, conditions=("moon",)))
