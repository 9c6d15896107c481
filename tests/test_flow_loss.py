"""What the flow learns: its loss, what is drawn for it, what the denoiser hears."""

import math
from dataclasses import replace

import pytest
import torch
from flows import SMALL, constant_predictor, given_by, make, relative, trained
from nets import noise
from torch.testing import assert_close

import flow
from extractor import spectrum
from flow import Condition, Flow
from losses import LossArgs, log_mse


def test_the_loss_of_an_untrained_flow_is_its_predictor_s_log_mse_in_compressed_bins_and_in_time():
    net, mixture = constant_predictor(make().eval(), 0.5), noise(2, 800)
    target = mixture * torch.tensor([[0.6], [0.45]])  # within reach
    total, parts = flow.loss(net, mixture, target, LossArgs(tau=1e-3))

    def bins(signal):
        x = spectrum.stft(signal / spectrum.level(mixture), 64, 16).mT
        return torch.view_as_real(torch.polar(x.abs() ** 0.5, x.angle())).flatten(1)

    of = [(0.5 * mixture, target, mixture), map(bins, (0.5 * mixture, target, mixture))]
    in_time, in_bins = (log_mse(error=x - e, mixture=y, tau=1e-3).mean().item() for e, x, y in of)
    assert parts == pytest.approx({"bins_db": in_bins, "time_db": in_time / 3}, abs=0.01)  # of t = 1/3, 2/3, 1
    assert total.item() == pytest.approx(sum(parts.values()))


def test_the_waveform_counts_by_1_minus_t():
    net, mixture = constant_predictor(make(replace(SMALL, steps=1)).eval(), 0.5), noise(2, 800)
    assert flow.loss(net, mixture, 0.6 * mixture, LossArgs())[1]["time_db"] == 0


def test_the_target_of_the_loss_is_never_out_of_reach():
    net, mixture = constant_predictor(make().eval(), 0.03), noise(1, 800)  # as if absent: the reach is 0
    assert flow.loss(net, mixture, mixture, LossArgs(tau=1e-3))[1]["bins_db"] == pytest.approx(-30, abs=0.01)


def times_and_starts(net: Flow, n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """What the denoiser is shown in n calls of the loss."""
    times, shown, denoise = [], [], net.denoise

    def spy(x, given, t):
        times.append(t)
        shown.append(x)
        return denoise(x, given, t)

    net.denoise = spy
    for _ in range(n):
        flow.loss(net, noise(2, 300), noise(2, 300) / 2, LossArgs())
    return torch.cat(times), torch.stack(shown)


def test_in_training_times_and_noise_are_random_and_follow_torch_s_state():
    torch.manual_seed(3)
    times, shown = times_and_starts(trained().train())
    torch.manual_seed(3)
    again, shown_again = times_and_starts(trained().train())
    assert torch.equal(times, again) and torch.equal(shown, shown_again)
    assert len(set(times.tolist())) == 80 and 0 < times.min() < 0.1 and 0.9 < times.max() <= 1
    assert times.mean().item() == pytest.approx(0.5, abs=0.1)


def test_the_noise_of_training_is_another_for_every_item_and_every_time():
    net = constant_predictor(trained().train(), 0.5)
    draws = []
    start = net.start
    net.start = lambda given, white: draws.append(white) or start(given, white)
    times_and_starts(net, n=2)
    (a, b), (c, _) = draws
    assert not torch.equal(a, b) and not torch.equal(a, c) and a.std().item() == pytest.approx(1, abs=0.2)


def test_in_validation_the_times_are_those_of_the_sampler_and_nothing_is_random():
    net = trained().eval()
    state = torch.get_rng_state()
    times, shown = times_and_starts(net, n=2)
    assert times.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3, 1, 1] * 2)
    assert torch.equal(shown[:3], shown[3:]) and torch.equal(torch.get_rng_state(), state)


def test_what_the_denoiser_is_shown_at_t_1_is_where_the_sampler_starts():
    net, mixture = trained(replace(SMALL, steps=1)), noise(1, 300)
    shown, denoise = [], net.denoise
    net.denoise = lambda x, given, t: shown.append(x) or denoise(x, given, t)
    flow.loss(net, mixture, mixture / 2, LossArgs())
    net(mixture)
    assert_close(shown[0], shown[1])


def test_the_denoiser_hears_the_time():
    net, mixture = trained(), noise(1, 300)
    given = given_by(net, mixture)
    x = net.start(given, flow.noise(0, 300)[None])
    assert relative(net.denoise(x, given, torch.tensor([0.2])), net.denoise(x, given, torch.tensor([0.8]))) > 1e-3


def test_the_denoiser_hears_the_levels_of_all_three_spectra_and_where_the_lowest_bins_lie():
    net = make()
    y, s, x = (torch.full((1, 3, 33), level**0.5 + 0j) for level in (10, 1, 0.1))
    given = Condition(y, s, torch.full((1, 3, 33), 2.0))
    found = net.denoiser.features(x, x - s, given)
    k = SMALL.n_bands
    for of, level in zip(found.split([k, k, k, 10], dim=-1), (10, 1, 0.1), strict=False):
        assert_close(of, torch.full((1, 3, k), 0.5 * math.log(level) + 0.5), rtol=0, atol=0.1)
    fine = found[..., 3 * k :].unflatten(-1, (5, 2))
    assert_close(fine[..., 0], torch.full((1, 3, 5), (0.1**0.5 - 1) / 2), rtol=1e-4, atol=0)
    assert not fine[..., 1].any()


def test_at_t_1_no_weights_let_the_noise_through_and_at_t_0_all_of_it_passes():
    net, mixture = trained(), noise(1, 800)
    given = given_by(net, mixture)
    net.denoiser.masks.weight.data.zero_()
    net.denoiser.masks.bias.data.zero_()
    net.denoiser.masks.bias.data[66:132:2] = 1  # the real parts of the second mask
    x = given.estimate + 0.5 * given.reach * net.frames(noise(1, 800))
    assert torch.equal(net.denoise(x, given, torch.tensor([1.0])), given.estimate)
    assert_close(net.denoise(x, given, torch.tensor([0.0])), x)


@pytest.mark.parametrize("mask", [0, 2], ids=["of s", "of y - s"])
def test_the_masks_are_of_what_they_say(mask):
    net, mixture = constant_predictor(trained(), 0.25), noise(1, 800)
    given = given_by(net, mixture)
    net.denoiser.masks.weight.data.zero_()
    net.denoiser.masks.bias.data = torch.tensor([0.1 * (i == mask) for i in range(3)]).repeat_interleave(66)
    net.denoiser.masks.bias.data[1::2] = 0  # the imaginary parts
    source = given.estimate if mask == 0 else given.mixture - given.estimate
    x = net.denoise(net.start(given, noise(1, 800)), given, torch.tensor([0.5]))
    assert_close(x, given.estimate + flow.within(0.1 * source, SMALL.reach * given.reach))
    assert relative(x, given.estimate) > 0.05


def test_a_few_steps_of_training_lower_the_loss_of_validation():
    net = constant_predictor(make(), 0.5)
    mixture = noise(4, 800)
    target = 0.5 * mixture + 0.1 * mixture.roll(1, -1)
    before = flow.loss(net.eval(), mixture, target, LossArgs())[0].item()
    optimizer = torch.optim.AdamW(net.denoiser.parameters(), lr=3e-3)
    net.train()
    for _ in range(60):
        optimizer.zero_grad()
        flow.loss(net, mixture, target, LossArgs())[0].backward()
        optimizer.step()
    assert flow.loss(net.eval(), mixture, target, LossArgs())[0].item() < before - 2
