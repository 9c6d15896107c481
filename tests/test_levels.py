"""extractor/levels.py: levels in dBFS, what of them is background, what is speech. Expected values are by hand."""

import numpy as np
import pytest

from extractor.levels import background_and_speech, channel_of, delay_of, hop_powers, smooth_levels, speech_threshold


def mono(*samples: float) -> np.ndarray:
    return np.float32(samples)[:, None]


# --- hops ------------------------------------------------------------------------------------------------------------


def test_the_power_of_a_hop_is_that_of_what_its_mean_leaves():
    power, _ = hop_powers(mono(1, -1, 1, -1, 3, 1, 3, 1, 5, 5, 5, 5, 0, 0, 0, 4), 4)
    np.testing.assert_allclose(power, [1, 1, 0, 3])  # the last: mean 1, (1 + 1 + 1 + 9) / 4


def test_what_is_missing_in_the_last_hop_counts_as_its_last_sample_again():
    power, place = hop_powers(mono(1, -1, 1, -1, 2, 0, 0), 4)
    np.testing.assert_allclose(power, [1, 0.75])  # 2, 0, 0, 0: mean 0.5, (2.25 + 3 * 0.25) / 4
    np.testing.assert_array_equal(place, [0, 2])


@pytest.mark.parametrize("gains, factor", [((1, -1), 1), ((1, 1), 1), ((1, 0), 0.5), ((1, 2, -3), 14 / 3)])
def test_power_is_the_mean_over_channels_and_opposite_ones_do_not_cancel(gains, factor):
    x = np.random.default_rng(0).standard_normal((400, 1))
    np.testing.assert_allclose(hop_powers(x * gains, 80)[0], factor * hop_powers(x, 80)[0])


def test_the_place_to_cut_is_where_a_sample_and_the_one_before_are_nearest_to_zero():
    _, place = hop_powers(mono(9, 0, 7, 2, 9, 1, 1, 9, 0, 9, 9, 9), 4)
    np.testing.assert_array_equal(place, [2, 2, 0])  # 49 + 0; 1 + 1; 0 + 81 with the last of the hop before
    _, place = hop_powers(np.float32([[9, 9], [0, 8], [3, 3], [3, -3]]), 4)
    np.testing.assert_array_equal(place, [3])  # of both channels: 9 + 9 + 9 + 9
    _, place = hop_powers(mono(1, 5, 0.9, 0.9), 4)  # as if one like the first were before it: 1 + 1; 0.81 + 0.81
    np.testing.assert_array_equal(place, [3])


@pytest.mark.parametrize("wave, expected", [(np.sign, 0), (lambda x: x, -3.01), (lambda x: x / 10, -23.01)])
def test_0_dbfs_is_a_full_scale_square_wave_and_3_db_more_than_a_sine(wave, expected):
    t = (np.arange(4000) + 0.5) / 8000
    power, _ = hop_powers(wave(np.sin(2 * np.pi * 400 * t))[:, None], 80)
    np.testing.assert_allclose(smooth_levels(power), expected, atol=0.01)


def test_levels_are_of_the_mean_power_of_three_hops_and_of_two_and_a_half_at_the_ends():
    np.testing.assert_allclose(
        smooth_levels(np.float32([0.3, 0, 0, 0.03])), 10 * np.log10([0.2, 0.1, 0.01, 0.02]), atol=1e-5
    )
    assert smooth_levels(np.zeros(2)).max() < -120


# --- background and speech -------------------------------------------------------------------------------------------


def levels(**shares: int) -> np.ndarray:
    """levels(b70=900, b20=100): so many hops at -70 dBFS, so many at -20 dBFS."""
    return np.concatenate([np.full(n, -float(level[1:])) for level, n in shares.items()])


def test_background_is_exceeded_98_percent_of_the_time_and_speech_a_quarter_of_the_time_that_it_stands_out():
    background = np.linspace(-80, -76, 401)     # -80, -79.99, ...
    speech = np.linspace(-50, -10, 401)
    found = background_and_speech(np.concatenate([background, speech]))
    assert found == pytest.approx((-79.84, -20), abs=0.011)   # the 16th of 802, three quarters of the way up


@pytest.mark.parametrize("x, above, expected", [
    (levels(b70=900, b20=100), None, (-70, -20)),
    (levels(b70=900, b20=100, b140=5000), None, (-70, -20)),    # digital silence says nothing of the background
    (levels(b70=1000, b20=10), None, (-70, -20)),
    (levels(b70=1000, b20=9), None, None),
    (levels(b140=1000), None, None),
    (levels(b40=1000), None, None),
    (levels(b40=1000, b34=100), None, None),
    (levels(b43=500, b40=500), None, None),
    (levels(b43=500, b40=500), -41, (-43, -40)),
    (levels(b43=500, b40=500), -39, None),
])
def test_speech_is_what_stands_out_or_is_above_a_given_level_for_a_tenth_of_a_second(x, above, expected):
    assert background_and_speech(x, above=above) == expected


def test_5_percent_of_speech_and_60_percent_give_the_same_levels_to_2_db():
    rng = np.random.default_rng(0)
    found = []
    for share in (0.05, 0.6):
        n = round(share * 20_000)
        found.append(background_and_speech(np.append(rng.normal(-65, 1, 20_000 - n), rng.normal(-25, 5, n))))
    np.testing.assert_allclose(*found, atol=2)


@pytest.mark.parametrize("background, speech, threshold", [
    (-40, -20, -35),
    (-54, -20, -49),
    (-55, -20, -50),    # where both say the same
    (-90, -20, -50),    # -85 would be 65 below
    (-100, -44, -74),
])
def test_the_threshold_is_5_db_above_the_background_but_30_db_below_the_speech_at_most(background, speech, threshold):
    assert speech_threshold(background, speech) == pytest.approx(threshold)


# --- channels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gains, channel", [
    ((1,), None), ((1, 1), None), ((1, 0), None), ((0, 0), None), ((0, 0, 1, 0, 0, 0), None),
    ((1, -1), 0), ((1, -2), 1), ((-0.9, 1), 1),
    ((1, -0.55), 0),            # 0.45 ** 2 = 0.20; a quarter of 1 + 0.55 ** 2 is 0.33
    ((1, -0.4), None),          # 0.6 ** 2 = 0.36; 0.29
    ((1, -0.5, -0.4), 0),       # 0.01 of 1.41
])
def test_the_loudest_channel_is_chosen_where_the_mean_of_one_sound_at_these_gains_has_6_db_too_little(gains, channel):
    assert channel_of(np.outer(gains, gains)) == channel


def test_channels_that_have_nothing_to_do_with_each_other_do_not_cancel():
    x = np.random.default_rng(0).standard_normal((6, 8000))
    assert channel_of(x @ x.T) is None and channel_of(np.diag([1.0, 9.0])) is None


@pytest.mark.parametrize("lag", [0, 1, 2, 40, -40, 3000])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_delay_between_two_channels_is_found_from_two_samples_on(lag, sign):
    x = np.random.default_rng(0).normal(size=20_000)
    both = np.stack([x, 0.3 * sign * np.roll(x, lag)], 1)
    assert delay_of(np.split(both, 4)) == (lag if abs(lag) > 1 else None)


def test_channels_with_sounds_of_their_own_have_no_delay():
    x, y, z = np.random.default_rng(0).normal(size=(3, 20_000))
    for left, right in ((x, y), (x + 0.5 * y, x + 0.5 * z), (x, 0 * x)):
        assert delay_of([np.stack([left, right], 1)]) is None
