"""From long recordings to clips: where the cuts fall, what the clips hold, what the table says of every second."""

import tempfile
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from speech import (
    BACKGROUND_DB,
    RATE,
    TALK,
    assert_complete,
    clips_of,
    content,
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
from extractor.slicing import FADE_S, LOST, best_clips, cross_fade
from slicer import main


def assert_no_cut_in(speech: list[tuple[float, float]], rows: list[dict]):
    assert clips_of(rows) and not any(row["forced"] for row in rows)
    assert not any(start < t < end for t in cut_times(rows).flat for start, end in speech)
    assert not any(row["speech_share"] for row in rows if not row["clip"])


# --- the best cuts ---------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("lengths_s, louder, by_db, wanted", [
    ((0.2, 0.6), 1, 4, 1), ((0.6, 0.2), 0, 4, 0),   # though it is a little louder
    ((0.5, 0.5), 0, 12, 1), ((0.5, 0.5), 1, 12, 0),
])
def test_of_two_pauses_the_longer_is_cut_and_of_equal_ones_the_quieter(lengths_s, louder, by_db, wanted, tmp_path):
    x, starts_s = talk(0.3, 9, lengths_s[0], 1, lengths_s[1], 9, 0.3), (9.3, 10.3 + lengths_s[0])
    x[round(starts_s[louder] * RATE) :][: round(lengths_s[louder] * RATE)] *= gain(by_db)
    assert starts_s[wanted] < cut_times(sliced(tmp_path, x))[1, 0] < starts_s[wanted] + lengths_s[wanted]


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


# --- the guarantee, and the account ----------------------------------------------------------------------------------


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
            assert_complete(rows, audio.probe(source).length(rate_out) / rate_out)
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


# --- the samples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mono", [True, False])
@pytest.mark.parametrize(
    "suffix, subtype, format",
    [("wav", "PCM_16", "wav"), ("wav", "PCM_24", "wav"), ("wav", "PCM_32", "wav"), ("wav", "FLOAT", "wav"),
     ("wav", "DOUBLE", "wav"), ("flac", "PCM_16", "wav"), ("flac", "PCM_24", "wav"), ("wav", "PCM_16", "flac"),
     ("flac", "PCM_24", "flac")],
)
def test_clips_are_bit_for_bit_the_recording_save_for_the_fades(suffix, subtype, format, mono, tmp_path):
    x = talk(0.4, 4, 2, 4, 0.3, 9, 0.4)  # neither 4 s makes a clip without the other
    x = 0.999 * x / np.abs(x).max()
    x = x if mono else np.stack([x, 0.7 * np.roll(x, 20)], axis=1)
    source = put(tmp_path / "in" / f"a.{suffix}", x, subtype=subtype)
    rows = sliced(tmp_path, mono=mono, format=format)
    dtype = {"FLOAT": "float32", "DOUBLE": "float64"}.get(subtype, "int32")
    recording = sf.read(source, dtype=dtype, always_2d=True)[0]
    n_splices = 0
    for row in clips_of(rows):
        clip = sf.read(tmp_path / "out" / row["clip"], dtype=dtype, always_2d=True)[0]
        assert sf.info(tmp_path / "out" / row["clip"]).subtype == subtype
        times = [row["start_s"], *(s[end] for s in splices_of(row, rows) for end in ("start_s", "end_s")), row["end_s"]]
        edges = [round(t * RATE) for t in times]
        pieces = [recording[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
        assert len(clip) == sum(map(len, pieces))
        for i, piece in enumerate(pieces):
            at, faded = sum(map(len, pieces[:i])), round(FADE_S * RATE) if i else 0
            np.testing.assert_array_equal(clip[at + faded : at + len(piece)], piece[faded:])
        n_splices += len(pieces) - 1
    assert n_splices == 1 and len(clips_of(rows)) == 2


def test_clips_begin_and_end_where_the_background_is_nearest_to_zero(tmp_path):
    sliced(tmp_path, talk(0.5, *[2, 0.5] * 60))
    ends = [sf.read(path)[0][[0, -1]] for path in (tmp_path / "out").glob("*.wav")]
    assert len(ends) >= 10 and np.abs(ends).max() < 0.5 * gain(BACKGROUND_DB)


def test_a_cross_fade_rises_without_a_step_and_its_gains_add_up_to_one():
    constant = np.full((500, 2), 0.3, np.float32)
    np.testing.assert_allclose(cross_fade(constant, constant, 100), np.full((900, 2), 0.3), rtol=1e-6)
    rise = cross_fade(0 * constant, constant / 0.3, 100)[:, 0]
    assert not rise[:400].any() and (rise[500:] == 1).all()
    steps = np.diff(rise[399:501])
    assert (0 < steps).all() and steps.max() < np.pi / 2 / 100 * 1.01  # the steepest of a half cosine


@pytest.mark.parametrize("hum_db", [None, -40])
def test_where_a_pause_was_shortened_there_is_no_click(hum_db, tmp_path):
    rate = 44100
    x = np.stack([talk(0.3, 4, 2.345, 4, 0.3, rate=rate, seed=seed) for seed in (0, 1)], axis=1)
    if hum_db is not None:  # where the one channel is at zero, the other is not
        angle = 2 * np.pi * 130 * np.arange(len(x)) / rate
        x += 2**0.5 * gain(hum_db) * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    put(tmp_path / "in" / "a.wav", x, rate)
    rows = sliced(tmp_path, sample_rate=rate, mono=False)
    (row,) = clips_of(rows)
    clip, _ = sf.read(tmp_path / "out" / row["clip"])
    at, n = round((splices_of(row, rows)[0]["start_s"] - row["start_s"]) * rate), round(FADE_S * rate)
    steps = np.abs(np.diff(clip, axis=0))
    nearby = steps[at - 10 * n : at - n].max()  # of the background that was left as it is
    assert steps[at - 2 : at + n + 2].max() <= (1.05 if hum_db is None else 2) * nearby


@pytest.mark.parametrize("rate, channels, clip_rate, note", [
    (11025, 2, 11025, ""), (11025, 6, 11025, "6 channels, of which the clips are the mean"), (11025, 1, 8000, ""),
    (8000, 2, 44100, "8000 Hz: its clips hold nothing above 4 kHz"),
])
def test_what_is_computed_is_written_as_float(rate, channels, clip_rate, note, tmp_path, capsys):
    x = talk(*TALK[:9], rate=rate)
    gains = 2 * np.arange(1, channels + 1) / (channels + 1)  # their mean is 1
    put(tmp_path / "in" / "a.wav", x[:, None] * gains, rate, "PCM_24")
    rows = sliced(tmp_path, sample_rate=clip_rate)
    expected = soxr.resample(x, rate, clip_rate) if rate != clip_rate else x
    for row in clips_of(rows):
        info = sf.info(tmp_path / "out" / row["clip"])
        assert (info.samplerate, info.channels, info.subtype) == (clip_rate, 1, "FLOAT")
        clip = sf.read(tmp_path / "out" / row["clip"])[0]
        np.testing.assert_allclose(clip, expected[round(row["start_s"] * clip_rate) :][: len(clip)], atol=1e-4)
    lines = capsys.readouterr().out.splitlines()
    assert [x for x in lines if "a.wav: " in x] == [f"{tmp_path}/in/a.wav: {note}"] * bool(note)


def test_flac_refuses_what_it_would_clip_and_leaves_nothing_behind(tmp_path):
    x = talk(*TALK)
    x[-RATE] = 1.5
    put(tmp_path / "in" / "a.wav", x)
    assert main(settings_of(tmp_path, format="flac")) == [
        f"{tmp_path}/in/a.wav: peaks at 1.50 of full scale, which flac cannot hold; use format wav"]
    assert content(tmp_path).keys() == {"in/a.wav"}  # the other clips are gone, too
