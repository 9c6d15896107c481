"""The measures of an estimate, by hand, against asteroid's and against mir_eval's."""

import threading
import warnings
from functools import partial

import mir_eval
import numpy as np
import pytest
import torch
from asteroid.losses import singlesrc_neg_sisdr
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from extractor.metrics import level_error, relative_level, sdr, shares, si_sdr, si_sdri

REFERENCE = torch.tensor([1.0, -1.0, 1.0, -1.0])
NOISE = torch.tensor([1.0, 1.0, -1.0, -1.0])  # as much energy, orthogonal, no mean
SILENCE = torch.zeros(4)
GAINED = partial(si_sdri, mixture=REFERENCE + NOISE)  # over a mixture of 0 dB
RATE = 44100


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("measure, estimate, reference, expected", [
    (si_sdr, REFERENCE + NOISE, REFERENCE, 0.0),
    (si_sdr, REFERENCE + 0.1 * NOISE, REFERENCE, 20.0),
    (si_sdr, REFERENCE + 10 * NOISE, REFERENCE, -20.0),
    (si_sdr, 2 * REFERENCE + NOISE, REFERENCE, 6.0206),  # 10 log10(16/4)
    (si_sdr, REFERENCE, REFERENCE, 106.0206),            # 10 log10(4) over the floor of -100 dB
    (si_sdr, NOISE, REFERENCE, -100.0),
    (si_sdr, SILENCE, REFERENCE, -100.0),
    (si_sdr, NOISE, SILENCE, -100.0),
    (si_sdr, SILENCE, SILENCE, -100.0),
    (relative_level, NOISE, NOISE, 0.0),
    (relative_level, REFERENCE, NOISE, 0.0),
    (relative_level, 0.1 * NOISE, NOISE, -20.0),
    (relative_level, SILENCE, NOISE, -106.0206),  # the floor of -100 dB over 10 log10(4)
    (relative_level, SILENCE, SILENCE, 0.0),
    (level_error, REFERENCE, REFERENCE, 0.0),
    (level_error, 0.5 * REFERENCE, REFERENCE, -6.0206),
    (level_error, 2 * REFERENCE + 3 * NOISE, REFERENCE, 6.0206),  # what is orthogonal says nothing of the level
    (level_error, -REFERENCE, REFERENCE, -100.0),
    (level_error, SILENCE, REFERENCE, -100.0),
    (level_error, NOISE, SILENCE, -100.0),
    (GAINED, REFERENCE + 0.1 * NOISE, REFERENCE, 20.0),
    (GAINED, 0.5 * (REFERENCE + NOISE), REFERENCE, 0.0),
    (GAINED, SILENCE, REFERENCE, -100.0),
])
def test_a_measure_of_four_samples_by_hand(measure, estimate, reference, expected):
    assert measure(estimate=estimate, reference=reference).item() == pytest.approx(expected, abs=1e-3)


@given(st.floats(-40, 5), st.integers(0, 1000), st.floats(1e-2, 1e2), st.sampled_from([-1, 1]), st.floats(-10, 10))
def test_si_sdr_is_asteroids_and_hears_neither_level_nor_sign_nor_mean(noise_db, seed, level, sign, mean):
    reference = noise(3, 200, seed=seed)
    estimate = reference + 10 ** (noise_db / 20) * noise(3, 200, seed=seed + 1)
    expected = -singlesrc_neg_sisdr(estimate, reference)
    found = si_sdr(estimate=sign * level * (estimate + mean), reference=reference - mean)
    assert_close(found, expected, atol=1e-3, rtol=0)


def test_sdr_of_a_batch_is_found_after_a_thread_has_set_its_number_of_threads():
    torch.get_num_threads()
    thread = threading.Thread(target=torch.set_num_threads, args=(1,))
    thread.start()
    thread.join()
    estimate, reference = noise(6, 2000, seed=0), noise(6, 2000, seed=1)
    assert sdr(estimate=estimate, reference=reference).isfinite().all()


def test_every_measure_takes_signals_of_a_batch_one_by_one():
    loudness = 10.0 ** torch.arange(-2, 4).reshape(2, 3, 1)  # one must not be the floor of another
    mixture, estimate, reference = (loudness * noise(2, 3, 2000, seed=seed) for seed in range(3))
    for measure, signals in [
        (si_sdr, {"estimate": estimate, "reference": reference}),
        (si_sdri, {"estimate": estimate, "mixture": mixture, "reference": reference}),
        (relative_level, {"estimate": estimate, "reference": mixture}),
        (level_error, {"estimate": estimate, "reference": reference + estimate}),
        (sdr, {"estimate": estimate, "reference": reference}),
        *((lambda field=field, **signals: getattr(shares(**signals, sample_rate=RATE), field),
           {"estimate": estimate, "mixture": mixture, "reference": reference})
          for field in ("target_loss", "leakage", "high_lost", "high_kept")),
    ]:
        together = measure(**signals)
        assert together.shape == (2, 3)
        for i, j in np.ndindex(2, 3):
            alone = measure(**{name: signal[i, j] for name, signal in signals.items()})
            assert_close(together[i, j], alone, atol=1e-4, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# SDR, which forgives a filter


def filtered(x: Tensor, n_taps: int, seed: int = 9) -> Tensor:
    """By a decaying random filter of so many taps, the last of them strong."""
    taps = noise(n_taps, seed=seed) * 0.99 ** torch.arange(n_taps)
    taps[-1] = 1.0
    return torch.from_numpy(np.convolve(x, taps)[: len(x)]).float()


@pytest.mark.parametrize("snr_db", [-20, 0, 30])
@pytest.mark.parametrize("n_taps", [1, 512, 600])
def test_sdr_is_mir_evals_and_hears_neither_level_nor_mean(snr_db, n_taps):
    reference = filtered(noise(4000, seed=0), 30, seed=8)  # coloured
    estimate = filtered(reference, n_taps)
    estimate = estimate / estimate.std() + 10 ** (-snr_db / 20) * noise(4000, seed=1)
    centred = [(x.double() - x.double().mean()).numpy() for x in (reference, estimate)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it will go
        expected = mir_eval.separation.bss_eval_sources(*centred)[0][0]
    assert sdr(estimate=estimate, reference=reference).item() == pytest.approx(expected, abs=1e-3)
    moved = sdr(estimate=-50 * (estimate + 3), reference=0.01 * (reference - 7))
    assert moved.item() == pytest.approx(expected, abs=1e-3)


def test_sdr_is_100_db_of_equal_signals_and_minus_100_where_one_is_silent():
    x = noise(4000, seed=0)
    assert sdr(estimate=x, reference=x).item() == pytest.approx(100, abs=0.1)
    for estimate, reference in [(0 * x, x), (x, 0 * x), (0 * x, 0 * x)]:
        assert sdr(estimate=estimate, reference=reference).item() == pytest.approx(-100)


@pytest.mark.parametrize("n", [1, 2, 100])
def test_every_measure_of_a_signal_shorter_than_its_filter_or_window_is_finite(n):
    x, d = noise(2, n, seed=0)
    for estimate in (x, d, x + d, 0 * x):
        assert sdr(estimate=estimate, reference=x).isfinite()
        assert torch.stack(shares(estimate=estimate, mixture=x + d, reference=x, sample_rate=RATE)).isfinite().all()


# ---------------------------------------------------------------------------------------------------------------------
# what became of the target and of the interference

TARGET, INTERFERENCE = noise(2, 50_000, seed=3)
UNRELATED = noise(50_000, seed=4)


def fates(
    estimate: Tensor, target: Tensor = TARGET, interference: Tensor = INTERFERENCE, rate: int = RATE
) -> dict[str, float]:
    found = shares(estimate=estimate, mixture=target + interference, reference=target, sample_rate=rate)
    return {name: x.item() for name, x in found._asdict().items()}


def band(x: Tensor, low_hz: float, high_hz: float, rate: int = RATE) -> Tensor:
    """What of it lies there, with walls."""
    spectrum, hz = torch.fft.rfft(x), torch.fft.rfftfreq(len(x), 1 / rate)
    return torch.fft.irfft(spectrum * ((low_hz <= hz) & (hz < high_hz)), len(x))


@pytest.mark.parametrize("a, b, lost, leakage, kept", [
    (1.0, 1.0, 0.0, 0.0, 0.0),        # the mixture
    (0.5, 0.1, 0.75, -20.0, -6.0206),
    (-0.8, 10.0, 0.36, 20.0, -1.9382),  # 1 - 0.64; 20 log10(0.8)
    (2.0, 0.5, 0.0, -6.0206, 6.0206),   # louder is not lost
    (0.1, -1.0, 0.99, 0.0, -20.0),
])
def test_of_a_target_and_b_interference_all_but_a_squared_is_lost_and_b_leaks(a, b, lost, leakage, kept):
    found = fates(a * TARGET + b * INTERFERENCE)
    assert found["target_loss"] == pytest.approx(lost, abs=1e-4)
    assert found["high_lost"] == pytest.approx(lost, abs=1e-4)
    assert found["leakage"] == pytest.approx(leakage, abs=1e-3)
    assert found["high_kept"] == pytest.approx(kept, abs=1e-3)


def test_the_target_itself_leaks_nothing_and_silence_has_eaten_all():
    found = fates(TARGET)
    assert found["target_loss"] < 1e-6 and found["leakage"] < -80
    found = fates(0 * TARGET)
    assert found["target_loss"] == pytest.approx(1) and found["high_lost"] == pytest.approx(1)
    assert -200 < found["leakage"] < -80 and found["high_kept"] == pytest.approx(-100)
    assert fates(0 * TARGET, 0 * TARGET, 0 * TARGET)["target_loss"] == 0


def test_what_is_kept_at_one_time_does_not_make_up_for_what_is_lost_at_another():
    tile = 16 * 512
    target = torch.zeros(8 * tile)
    target[: 3 * tile], target[-3 * tile :] = noise(3 * tile, seed=0), 3**0.5 * noise(3 * tile, seed=1)
    first = target * (torch.arange(8 * tile) < 4 * tile)  # the silence between is longer than a tile
    interference = UNRELATED.repeat(2)[: 8 * tile]
    lost = fates(first + 0.1 * interference, target, interference)["target_loss"]
    second = target - first
    assert lost == pytest.approx((second @ second / (target @ target)).item(), abs=0.01)  # 0.75; one gain: 0.94


def test_above_8_khz_is_counted_by_itself():
    low, high = band(TARGET, 0, 8000), band(TARGET, 8000, RATE)
    share = (high @ high / (TARGET @ TARGET)).item()
    dull = fates(low + 0.1 * INTERFERENCE)
    assert dull["target_loss"] == pytest.approx(share, abs=0.015)
    assert dull["high_lost"] > 0.98 and dull["high_kept"] < -20
    thin = fates(high + 0.1 * INTERFERENCE)
    assert thin["target_loss"] == pytest.approx(1 - share, abs=0.015)
    assert thin["high_lost"] < 0.02 and thin["high_kept"] == pytest.approx(0, abs=0.1)


def test_high_starts_at_8_khz_at_any_rate():
    for rate in (22050, 44100, 96000):
        assert fates(band(TARGET, 0, 7000, rate), rate=rate)["high_lost"] > 0.97
        assert 0.01 < fates(band(TARGET, 9000, rate, rate), rate=rate)["high_lost"] < 0.5
    found = fates(TARGET, rate=8000)
    assert np.isnan(found["high_lost"]) and np.isnan(found["high_kept"]) and found["target_loss"] < 1e-6


@pytest.mark.parametrize("target", [band(TARGET, 0, 6000), 0 * TARGET], ids=["dull", "silent"])
def test_of_a_target_without_treble_no_treble_is_lost_or_kept(target):
    target = target * torch.hann_window(len(target))  # no click at its ends
    found = fates(0.5 * target + 0.1 * INTERFERENCE, target)
    assert np.isnan(found["high_lost"]) and np.isnan(found["high_kept"])
    assert found["target_loss"] == pytest.approx(0.75 if target.any() else 0, abs=1e-3)
    assert found["leakage"] == pytest.approx(-20, abs=0.01)


def test_what_has_nothing_to_do_with_either_leaks_21_db_by_chance():
    found = fates(UNRELATED)
    assert found["leakage"] == pytest.approx(-21, abs=1.5) and found["high_kept"] == pytest.approx(-21, abs=1.5)
    assert found["target_loss"] == pytest.approx(1, abs=0.015)


def test_noise_of_its_own_is_neither_eaten_speech_nor_leakage():
    clean, noisy = fates(0.5 * TARGET + 0.1 * INTERFERENCE), fates(0.5 * TARGET + 0.1 * (INTERFERENCE + UNRELATED))
    assert noisy["target_loss"] == pytest.approx(clean["target_loss"], abs=0.01)
    assert noisy["leakage"] == pytest.approx(clean["leakage"], abs=0.3)


@given(st.floats(-40, 40))
def test_shares_are_the_same_at_any_level(level_db):
    target, interference, own = noise(3, 5000, seed=5)
    g = 10 ** (level_db / 20)
    estimate = 0.7 * target + 0.2 * interference + 0.3 * own
    found = fates(g * estimate, g * target, g * interference)
    assert found == pytest.approx(fates(estimate, target, interference), abs=1e-3)
