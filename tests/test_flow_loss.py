"""What the flow learns: its loss, what is drawn for it, what the denoiser hears."""

from dataclasses import replace

import pytest
import torch
from flows import SMALL, constant_predictor, given_by, make, relative, trained
from nets import noise
from scipy.stats import kstest
from torch.testing import assert_close

import flow
from extractor import spectrum
from flow import Flow
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


def test_every_item_has_a_uniform_time_and_a_white_noise_of_its_own_seed():
    times, white = flow.drawn(torch.arange(1000), 50)
    assert kstest(times[0].numpy(), "uniform").pvalue > 0.001 and 0 < times.min() and times.max() <= 1
    assert white.std().item() == pytest.approx(1, abs=0.02) and len(white.unique(dim=0)) == 1000
    assert all(map(torch.equal, flow.drawn(torch.tensor([7, 3]), 50), (times[:, [7, 3]], white[[7, 3]])))


def test_in_training_the_loss_is_drawn_anew_by_torch_s_state_and_in_validation_nothing_is_drawn():
    def losses(net: Flow) -> list[float]:
        torch.manual_seed(3)
        return [flow.loss(net, noise(2, 300), noise(2, 300) / 2, LossArgs())[0].item() for _ in range(3)]

    training, validation = losses(trained().train()), losses(trained().eval())
    assert training == losses(trained().train()) and len({*training}) == 3
    assert len({*validation}) == 1


def test_the_denoiser_hears_the_time():
    net, mixture = trained(), noise(1, 300)
    given = given_by(net, mixture)
    x = net.start(given, flow.noise(0, 300)[None])
    assert relative(net.denoise(x, given, torch.tensor([0.2])), net.denoise(x, given, torch.tensor([0.8]))) > 1e-3


def test_the_denoiser_hears_the_levels_of_all_three_spectra():
    net, mixture = trained(), noise(1, 300)
    given = given_by(net, mixture)
    x = net.start(given, flow.noise(0, 300)[None])
    heard, change = net.denoiser.features(x, x - given.estimate, given), x - given.estimate
    for louder in ((2 * x, given), (x, given._replace(mixture=2 * x)), (x, given._replace(estimate=2 * x))):
        assert relative(net.denoiser.features(louder[0], change, louder[1]), heard) > 0.01


def test_at_t_1_no_weights_let_the_noise_through_and_at_t_0_all_of_it_passes():
    net, mixture = trained(), noise(1, 800)
    given = given_by(net, mixture)
    net.denoiser.masks.weight.data.zero_()
    net.denoiser.masks.bias.data.zero_()
    net.denoiser.masks.bias.data[66:132:2] = 1  # the real parts of the second mask
    x = given.estimate + 0.5 * given.reach * net.frames(noise(1, 800))
    assert torch.equal(net.denoise(x, given, torch.tensor([1.0])), given.estimate)
    assert_close(net.denoise(x, given, torch.tensor([0.0])), x)


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
