"""calibration.py: remixes whose targets are known, and what they are to teach."""

from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest
import soundfile as sf
from conftest import RATE
from tiny import tiny_run

from calibration import (
    BEST_DB,
    OTHER,
    WORST_DB,
    Calibration,
    remix,
    remix_plan,
    remix_sets,
    scores_of,
    silences,
    truths,
)
from dataset import KINDS, under_conditions
from extractor import audio, nonintrusive, promise
from extractor.coding import Coding, coded
from extractor.material import Source, find_material

T = np.arange(4 * RATE) / RATE
HUM = (0.1 * np.sin(2 * np.pi * 300 * T)).astype(np.float32)
HISS = np.random.default_rng(0).uniform(-0.1, 0.1, len(T)).astype(np.float32)


# --- truths ----------------------------------------------------------------------------------------------------------


def test_somebody_else_is_as_loud_as_what_is_heard_in_the_target_s_pauses_over_its_speech():
    target, other = HUM * (T < 2), 0.1 * HUM * (T > 3)
    found = truths(target, target + other, RATE)
    assert found["other_db"] == pytest.approx(-20, abs=0.3)
    assert truths(target, target, RATE)["other_db"] == nonintrusive.LEAST_DB
    assert truths(HUM, HUM + 0.1 * HISS, RATE)["other_db"] == nonintrusive.LEAST_DB  # it has no pause


def test_si_sdr_is_that_of_the_estimate_within_limits_and_the_worst_where_there_is_no_target():
    noise = HISS - (HISS @ HUM) / (HUM @ HUM) * HUM
    noise *= np.float32(np.sqrt((HUM @ HUM) / (noise @ noise)) * 10 ** (-13 / 20))
    assert truths(HUM, HUM + noise, RATE)["si_sdr_db"] == pytest.approx(13, abs=0.1)
    assert truths(HUM, HUM, RATE)["si_sdr_db"] == BEST_DB and truths(HUM, noise, RATE)["si_sdr_db"] == WORST_DB
    assert truths(0 * HUM, HUM, RATE) == {"si_sdr_db": WORST_DB, "other_db": nonintrusive.MOST_DB}


# --- remixes ---------------------------------------------------------------------------------------------------------


def test_silences_are_where_little_was_extracted_and_keep_away_from_speech(tmp_path):
    """Speech from 4 to 6 and from 8 to 9 s: the silence between is too short."""
    t = np.arange(12 * RATE) / RATE
    speaks = (t >= 4) & (t < 6) | (t >= 8) & (t < 9)
    mixture = np.random.default_rng(0).uniform(-0.1, 0.1, len(t))
    recordings = []
    for name, x in (("mixture", mixture), ("estimate", mixture * np.where(speaks, 0.9, 0.05))):
        sf.write(tmp_path / f"{name}.wav", x, RATE)
        recordings.append(audio.probe(tmp_path / f"{name}.wav"))
    found = [(s.start / RATE, (s.start + s.length) / RATE) for s in silences(*recordings)]
    assert found == [(0.5, 3.5), (9.5, 11.5)]
    assert silences(recordings[0], recordings[0]) == []


@pytest.fixture
def state(recordings, tmp_path) -> dict:
    """What is asked of a checkpoint: src_1 of two clean recordings was held out."""
    args = tiny_run(recordings, tmp_path)
    clean = f"{recordings}/clean/alice/set/src_"
    return {"args": asdict(args), "clips": {f"{clean}0.wav": (6.0, 0.0), f"{clean}1.wav": (6.0, 6.0)}}


def test_a_remix_is_a_held_out_clip_under_a_recording_s_silences(state, recordings, tmp_path):
    """The silence hums at 1 kHz; held out is what rises in pitch."""
    path = tmp_path / "capture.wav"
    t = np.arange(20 * RATE) / RATE
    sf.write(path, 0.2 * np.sin(2 * np.pi * 1000 * t), RATE)
    sets = remix_sets(state, RATE, {"one": [Source(audio.probe(path), 4 * RATE, 8 * RATE)], "none": []}, [])
    assert sets.keys() == {OTHER, "one"}
    for mixtures in sets.values():
        (held,) = mixtures.sources[0]
        assert held.recording.path.name == "src_1.wav" and mixtures.clean[0].sources == [held]
    i = KINDS.index("game")
    game = sets["one"][0, i]["interference"].numpy()
    assert np.abs(np.fft.rfft(game)).argmax() == pytest.approx(1000 * len(game) / RATE, abs=1)
    assert np.abs(np.fft.rfft(sets[OTHER][0, i]["interference"].numpy())).argmax() != 1000 * len(game) / RATE
    assert not sets["one"][0, KINDS.index("absent")]["target"].any()
    again = remix_sets(state, RATE, {}, [])[OTHER]
    assert (again[0, 5]["mixture"] == sets[OTHER][0, 5]["mixture"]).all()


def test_remixes_are_as_noisy_as_the_clips(state):
    quiet, loud = (remix_sets(state, RATE, {}, [db] * 20)[OTHER].args.snr_db for db in (-7.0, 12.0))
    assert quiet == (-7, -7) and loud == (12, 12)
    assert remix_sets(state, RATE, {}, [-7.0] * 9)[OTHER].args.snr_db != quiet  # so few tell nothing


def test_remixes_ask_for_as_little_of_a_room_as_the_net_was_trained_for(state):
    assert remix_sets(state, RATE, {}, [])[OTHER].augment.dereverb == "off"
    state["args"]["augment"] = {"dereverb": "full"}
    assert remix_sets(state, RATE, {}, [])[OTHER].augment.dereverb == "full"


def test_every_recording_has_its_share_of_the_remixes_and_other_scenes_a_third(state, recordings):
    source = find_material(replace(tiny_run(recordings, recordings).data)).games[0]
    seconds = {"a": 1, "b": 3}
    sets = remix_sets(state, RATE, {k: [Source(source, 0, n * RATE)] for k, n in seconds.items()}, [])
    plan = remix_plan(sets, 1200)
    counts = Counter(name for name, _ in plan)
    assert counts[OTHER] == 400 and counts["a"] == pytest.approx(200, abs=5) and counts.total() == 1200
    assert len({i for _, i in plan}) == 1200
    assert sum(under_conditions(i) for _, i in plan) == 960
    for each in counts:
        kinds = Counter(i % len(KINDS) for name, i in plan if name == each)
        assert all(n == pytest.approx(counts[each] / 4, rel=0.15) for n in kinds.values()) and len(kinds) == 4
    assert plan[:100] == remix_plan(sets, 100)  # more of them keep those that are there


def test_a_remix_is_coded_as_the_recording_is_its_target_by_itself(state):
    mixtures, coding = remix_sets(state, 44100, {}, [])[OTHER], Coding("libopus", 16)
    plain, lossy = (remix(mixtures, (0, 1), how) for how in (None, coding))
    for part in ("mixture", "target"):
        np.testing.assert_array_equal(plain[part], mixtures[0, 1][part].numpy())
        np.testing.assert_allclose(lossy[part], coded(plain[part], 44100, coding), atol=1e-6)
        assert np.abs(lossy[part] - plain[part]).max() > 1e-3
    absent = remix(mixtures, (0, KINDS.index("absent")), coding)
    assert not absent["target"].any() and absent["mixture"].any()


# --- what they teach -------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def small_forests(monkeypatch):
    monkeypatch.setitem(promise.FOREST, "n_estimators", 50)


def remixes(n: int, rng) -> list[dict]:
    """Estimates of a hum with as much hiss as chance will have it; every fifth is of no target."""
    rows = []
    for i in range(n):
        target, gain = HUM[:RATE] * (i % 5 > 0), 10 ** (-rng.uniform(0, 30) / 20)
        estimate = (target + gain * HISS[:RATE]).astype(np.float32)
        row = scores_of(estimate + HISS[:RATE], lambda x, e=estimate: np.resize(e, len(x)), RATE, target)
        rows.append(row | {"over": "abcde"[i % 5]})
    return rows


def test_a_calibration_predicts_what_it_has_not_seen_and_ranks_absent_targets_last():
    rng = np.random.default_rng(0)
    model = Calibration(remixes(200, rng), other_db=-20, share=0.9, confidence=0.9)
    assert np.median(model.errors_db()) < 1.5 and len(model.errors_db()) == 160
    clips = remixes(50, rng)
    predicted = model.predict(clips)
    wrong = predicted["si_sdr_db"] - [float(row["si_sdr_db"]) for row in clips]
    assert np.median(np.abs(wrong)) < 1.5
    absent = np.arange(50) % 5 == 0
    assert (model.ranked(predicted)[absent] == -np.inf).all() and np.isfinite(model.ranked(predicted)[~absent]).all()


def test_more_is_accepted_where_less_is_asked():
    model = Calibration(remixes(200, np.random.default_rng(0)), other_db=-20, share=0.9, confidence=0.9)
    little, much = model.keep(5), model.keep(15)
    assert little.accepted > much.accepted > 0 and little.threshold_db < much.threshold_db
    assert much.good <= model.is_good(model.truths, 15).sum() == much.all_good


def test_without_a_silence_in_any_recording_the_remixes_are_parted_by_their_number():
    rows = [row | {"over": OTHER} for row in remixes(60, np.random.default_rng(0))]
    assert np.isfinite(Calibration(rows, other_db=-20, share=0.9, confidence=0.9).errors_db()).all()
