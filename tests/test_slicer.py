"""From long recordings to clips: where the cuts fall, and what the table says of every second."""

import tempfile
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from speech import (
    BACKGROUND_DB,
    RATE,
    TALK,
    assert_every_second_is_accounted_for,
    clips_of,
    cut_times,
    gain,
    put,
    rows_in,
    settings_of,
    sliced,
    splices_of,
    spoken,
    talk,
)

import slicer
from extractor import audio
from extractor.slicing import LOST, best_clips
from slicer import FADE_S, main


def assert_no_cut_in(speech: list[tuple[float, float]], rows: list[dict]):
    assert clips_of(rows) and not any(row["forced"] for row in rows)
    assert not any(start < t < end for t in cut_times(rows).flat for start, end in speech)
    assert not any(row["speech_share"] for row in rows if not row["clip"])


# ---------------------------------------------------------------------------------------------------------------------
# the best cuts


@st.composite
def cuts(draw):
    """Positions, prices, seconds of speech before each."""
    n = draw(st.integers(2, 9))
    gaps = draw(st.lists(st.integers(0, 8), min_size=n - 1, max_size=n - 1))
    prices = draw(st.lists(st.sampled_from([0, 0.25, 1, 5, 10]), min_size=n, max_size=n))
    shares = draw(st.lists(st.sampled_from([0, 0.5, 1]), min_size=n - 1, max_size=n - 1))
    speech = accumulate((gap * share for gap, share in zip(gaps, shares, strict=True)), initial=0.0)
    return np.array(list(accumulate(gaps, initial=0))), np.array(prices, float), np.array(list(speech))


def disjoint(n_cuts: int, first: int = 0):
    """All lists of clips (cut, cut), in order, none beginning before another ends."""
    yield []
    for start in range(first, n_cuts):
        for end in range(start + 1, n_cuts):
            for others in disjoint(n_cuts, end):
                yield [(start, end), *others]


@settings(max_examples=150)
@given(cuts(), st.integers(1, 6), st.integers(1, 8), st.floats(0, 1))
def test_no_other_choice_of_clips_costs_less(cuts, shortest, spread, where):
    position, price, speech_s = cuts
    longest, preferred = shortest + spread, shortest + round(where * spread)

    def cost(clips) -> float:
        lengths = [position[b] - position[a] for a, b in clips]
        own = sum(price[a] + price[b] for a, b in clips) + sum(((x - preferred) / spread) ** 2 for x in lengths)
        return own + LOST * (speech_s[-1] - sum(speech_s[b] - speech_s[a] for a, b in clips))

    def allowed(clips) -> bool:
        return all(shortest <= position[b] - position[a] <= longest for a, b in clips)

    clips = best_clips(position, price, speech_s, shortest=shortest, longest=longest, preferred=preferred)
    others = list(disjoint(len(position)))
    assert clips in others and allowed(clips)
    assert cost(clips) == pytest.approx(min(cost(other) for other in others if allowed(other)))


@pytest.mark.parametrize("background_db, seed", [(BACKGROUND_DB, 0), *((-36, seed) for seed in range(5))])
def test_cuts_fall_in_pauses_though_only_18_db_quieter_than_the_speech_and_none_is_lost(background_db, seed, tmp_path):
    assert_no_cut_in(spoken(*TALK), sliced(tmp_path, talk(*TALK, background_db=background_db, seed=seed)))


def test_the_cuts_move_neither_with_the_level_nor_with_a_constant_offset(tmp_path, capsys):
    x = talk(*TALK)
    times = cut_times(sliced(tmp_path / "as it is", x))
    np.testing.assert_array_equal(cut_times(sliced(tmp_path / "24 dB less", x / 16)), times)
    np.testing.assert_allclose(cut_times(sliced(tmp_path / "offset", x + 0.1)), times, atol=0.02)
    assert "a constant offset of 0.10 of full scale" in capsys.readouterr().out


@pytest.mark.parametrize("weaker", [0, 1])
def test_of_channels_that_would_cancel_the_louder_is_used_alone(weaker, tmp_path, capsys):
    x = talk(*TALK)
    stereo = np.stack([x, -x], axis=1)
    stereo[:, weaker] *= 0.75
    times = cut_times(sliced(tmp_path / "mono", x))
    rows = sliced(tmp_path / "stereo", stereo)
    np.testing.assert_array_equal(cut_times(rows), times)
    assert f"channel {2 - weaker} alone was used" in capsys.readouterr().out
    for row in clips_of(rows):
        span = slice(round(row["start_s"] * RATE), round(row["end_s"] * RATE))
        clip, _ = sf.read(tmp_path / "stereo" / "out" / row["clip"], dtype="float32")
        np.testing.assert_array_equal(clip, stereo[span, 1 - weaker].astype(np.float32))


@pytest.mark.parametrize("first, second", [(0.2, 0.6), (0.6, 0.2)])
def test_of_two_pauses_the_longer_is_cut(first, second, tmp_path):
    x = talk(0.3, 9, first, 1, second, 9, 0.3)
    longer = 9.3 if first > second else 10.3 + first
    x[round(longer * RATE) :][: round(0.6 * RATE)] *= gain(4)  # though it is the louder, a little
    assert longer < cut_times(sliced(tmp_path, x))[1, 0] < longer + 0.6


@pytest.mark.parametrize("breath", [0, 1])
def test_of_two_pauses_the_quieter_is_cut(breath, tmp_path):
    x, starts = talk(0.3, 9, 0.5, 1, 0.5, 9, 0.3), (9.3, 10.8)
    x[round(starts[breath] * RATE) :][: RATE // 2] *= gain(12)
    quieter = starts[1 - breath]
    assert quieter < cut_times(sliced(tmp_path, x))[1, 0] < quieter + 0.5


@pytest.mark.parametrize("at_s", [9.4, 9.402, 9.404, 9.406, 9.408])
def test_a_click_in_a_pause_does_not_hide_it(at_s, tmp_path):
    x = talk(0.3, 9, 0.24, 9, 0.3)  # with speech in its middle, neither half would be a pause
    x[round(at_s * RATE) :][: round(0.003 * RATE)] += 0.3
    assert_no_cut_in(spoken(0.3, 9, 0.24, 9, 0.3), sliced(tmp_path, x))


@pytest.mark.filterwarnings("error")
def test_speech_without_a_pause_is_cut_all_the_same_and_marked_as_such(tmp_path, capsys):
    rows = sliced(tmp_path, talk(0, 60))
    clips = clips_of(rows)
    assert [row["forced"] for row in clips] == ["end", *["both"] * (len(clips) - 2), "start"]
    assert all(5 <= row["seconds"] <= 15 for row in clips)
    assert sum(row["seconds"] for row in clips) > 0.98 * 60
    assert f"no pause within reach: {len(clips) - 1} cuts are inside speech" in capsys.readouterr().out


def test_with_a_threshold_of_ones_own_what_is_less_loud_is_a_pause(tmp_path):
    x = talk(0.5, 17, 0.5)
    x[9 * RATE : 9 * RATE + RATE // 2] = talk(0.5, background_db=-42)
    rows = sliced(tmp_path / "-40", x, threshold_db=-40)
    assert 9 < cut_times(rows)[0, 1] < 9.5 and not clips_of(rows)[0]["forced"]
    assert clips_of(sliced(tmp_path / "found", x))[0]["forced"] == "end"


# ---------------------------------------------------------------------------------------------------------------------
# the guarantee, and the account


@st.composite
def recordings(draw):
    """Pauses of any length, speech of any length, two rates, limits."""
    pauses = draw(st.lists(st.floats(0, 20), min_size=1, max_size=6))
    speech = draw(st.lists(st.floats(0.05, 30), min_size=len(pauses), max_size=len(pauses)))
    seconds = [s for pair in zip(pauses, speech, strict=True) for s in pair] + [draw(st.floats(0, 5))]
    limits = draw(st.sampled_from([(2, 4.5), (5, 15), (2.3, 3.3), (4.1, 7.7), (1, 2)]))
    pause_limits = draw(st.sampled_from([(0.15, 0.7), (0.03, 0.1), (0.5, 3)]))
    names = ("min_s", "max_s", "min_pause_s", "max_pause_s")
    rates = draw(st.sampled_from([(8000, 8000), (11025, 8000), (8000, 11025), (8000, 6001)]))
    return seconds, rates, dict(zip(names, limits + pause_limits, strict=True))


@settings(max_examples=40)
@given(recordings())
def test_every_clip_is_within_the_limits_and_every_second_is_accounted_for(recording):
    seconds, (rate_in, rate_out), fields = recording
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        source = put(Path(folder) / "in" / "a.wav", talk(*seconds, rate=rate_in), rate_in)
        main(settings_of(Path(folder), sample_rate=rate_out, **fields))
        for path in out.glob("*.wav"):
            assert fields["min_s"] <= sf.info(path).frames / rate_out <= fields["max_s"]
        if rows := rows_in(Path(folder)):  # else there was no tenth of a second of speech
            assert_every_second_is_accounted_for(rows, audio.probe(source).length(rate_out) / rate_out)
            lengths = {row["clip"]: round(row["seconds"] * rate_out) for row in clips_of(rows)}
            assert lengths == {path.name: sf.info(path).frames for path in out.glob("*.wav")}


def test_a_long_pause_in_a_clip_and_the_silence_at_its_ends_are_shortened_to_max_pause_s(tmp_path):
    rows = sliced(tmp_path, talk(4, 3, 6, 3, 4), min_s=5, max_s=8, max_pause_s=0.5)
    (clip,) = clips_of(rows)
    assert len(splices_of(clip, rows)) == 1
    x, _ = sf.read(tmp_path / "out" / clip["clip"])
    quiet = np.sqrt(np.square(x[: len(x) // 80 * 80]).reshape(-1, 80).mean(axis=1)) < gain(BACKGROUND_DB + 10)
    ends = np.flatnonzero(np.diff(quiet.astype(int), prepend=0, append=0))  # of the quiet runs: from, to
    longest_s = np.diff(ends)[::2] * 0.01
    assert len(longest_s) == 3 and longest_s.max() <= 0.53 and longest_s[1] >= 0.45
    assert clip["seconds"] == pytest.approx(6 + longest_s.sum(), abs=0.03)


def test_nothing_longer_than_a_block_or_a_clip_is_in_memory(tmp_path, monkeypatch):
    long = talk(0.5, *[4, 0.5] * 130)
    times = cut_times(sliced(tmp_path / "at once", long))
    asked, read = [], audio.read
    monkeypatch.setattr(audio, "read", lambda *args, **kw: asked.append(args[2]) or read(*args, **kw))
    monkeypatch.setattr(slicer, "BLOCK", 50_000)
    rows = sliced(tmp_path / "by blocks", long)
    np.testing.assert_allclose(cut_times(rows), times, atol=0.01)
    assert max(asked) <= (15 + FADE_S) * RATE
