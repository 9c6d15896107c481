"""The flow on distributions whose denoiser is known, its parts, and its net: what it refines, hears and learns."""

from copy import deepcopy
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nets import noise
from scipy.stats import kstest
from torch.testing import assert_close

import flow
import models
from bandsplit import BandSplit, BandSplitArgs
from extractor import UserError, checkpoint, spectrum
from extractor.chunked import extract_long
from extractor.parallel import layers_of
from flow import Condition, Flow, FlowArgs
from fullband import FullBand, FullBandArgs
from losses import LossArgs, log_mse

# ---------------------------------------------------------------------------------------------------------------------
# the flow, with denoisers in closed form; s = 0, sigma R = SIGMA

SIGMA = 0.5


def normal(n: int = 200_000) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(2))


def of_two_points(x: torch.Tensor, t: float) -> torch.Tensor:
    """E[x | x_t] where x is -1 or 1: the log odds are 2 (1 - t) x_t / (t sigma)^2."""
    return torch.tanh((1 - t) * x / (t * SIGMA) ** 2)


def test_one_step_is_the_mean_of_both_points_four_are_nearly_at_them_and_many_draw_each_as_often():
    one, four, many = (flow.sample(of_two_points, SIGMA * normal(), steps) for steps in (1, 4, 32))
    assert one.abs().max() == 0
    assert 0.97 < four.abs().mean() < 1
    assert many.abs().sub(1).abs().max() < 0.05 and abs(many.sign().mean()) < 0.01


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_denoiser_is_asked_at_equal_steps_from_1_and_its_last_word_counts(steps):
    asked = []

    def denoise(x, t):
        asked.append(t)
        return x + len(asked)

    start = normal(10)
    x = flow.sample(denoise, start, steps)
    assert asked == pytest.approx([1 - i / steps for i in range(steps)])
    # a step from t to t' adds (1 - t'/t) of what the denoiser added
    assert_close(x, start + sum((i + 1) / (steps - i) for i in range(steps)))


@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.0])
def test_compressing_takes_magnitudes_to_the_power_of_alpha_and_leaves_phases_and_comes_undone(alpha):
    x = torch.polar(torch.tensor([1e-2, 0.5, 3.0, 0.0]), torch.tensor([0.3, -2.0, 3.0, 0.0]))
    small = flow.compress(x, alpha)
    assert_close(small, torch.polar(x.abs() ** alpha, x.angle()), rtol=1e-4, atol=0)
    assert_close(flow.expand(small, alpha), x, rtol=1e-3, atol=0)


def test_within_moves_only_what_is_outside_straight_to_the_rim():
    x = torch.tensor([3 + 4j, 0.3 + 0.4j, 0j, 5j])
    moved = flow.within(x, torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert_close(moved, torch.tensor([0.6 + 0.8j, 0.3 + 0.4j, 0j, 0j]), rtol=1e-6, atol=1e-9)


@given(st.integers(0, 3 * flow.BLOCK), st.integers(1, flow.BLOCK + 1000))
@example(flow.BLOCK - 5, 5)
@example(flow.BLOCK - 5, 6)
@settings(max_examples=20)
def test_noise_is_the_same_wherever_a_piece_begins(start, n_samples):
    whole = flow.noise(0, 4 * flow.BLOCK + 1000)
    assert torch.equal(flow.noise(start, n_samples), whole[start : start + n_samples])


def test_noise_is_white_and_of_level_1_across_its_blocks():
    x = flow.noise(0, 4 * flow.BLOCK)
    assert x.std().item() == pytest.approx(1, abs=0.01) and abs(x.mean()) < 0.01
    for lag in (1, 16, flow.BLOCK):
        assert abs((x[lag:] * x[:-lag]).mean()) < 0.02


def test_presence_is_0_up_to_30_db_under_the_mixture_and_1_from_20_db_on():
    mixture = torch.ones(1, 1, 6)
    for db, expected in ((-60, 0), (-30.5, 0), (-25, 0.5), (-20, 1), (0, 1)):
        found = flow.presence(10 ** (db / 10) * mixture, mixture, n_frames=5)
        assert found.shape == (1, 1, 1) and found.item() == pytest.approx(expected, abs=1e-4)
    assert not flow.presence(torch.zeros(2, 7, 4), torch.zeros(2, 7, 4), n_frames=5).any()  # nor in silence


def test_presence_hears_the_frames_around():
    estimate, mixture = torch.zeros(1, 20, 4), torch.ones(1, 20, 4)
    estimate[:, 10] = 1
    assert flow.presence(estimate, mixture, n_frames=5)[0, :, 0].nonzero().flatten().tolist() == [8, 9, 10, 11, 12]


def test_a_local_level_is_the_mean_power_of_5_frames_and_9_bins():
    power = torch.zeros(1, 20, 30)
    power[0, 10, 15] = 45
    expected = torch.zeros(1, 20, 30)
    expected[0, 8:13, 11:20] = 1
    assert_close(flow.local_level(power), expected)
    assert_close(flow.local_level(torch.ones(2, 3, 4)), torch.ones(2, 3, 4))  # nothing counts beyond the borders


@pytest.mark.parametrize("t", [0.2, 0.7])
def test_the_regression_is_that_of_a_gaussian_of_level_1_on_the_path(t):
    x, z = normal(), torch.randn(200_000, generator=torch.Generator().manual_seed(3))
    on_path = (1 - t) * x + t * SIGMA * z
    expected = (x * on_path).mean() / on_path.square().mean()
    assert flow.regression(torch.tensor([t]), SIGMA).item() == pytest.approx(expected.item(), rel=0.02)


# ---------------------------------------------------------------------------------------------------------------------
# the net

RATE = 8000
PREDICTIVE = FullBandArgs(sample_rate=RATE, n_fft=64, hop=16, n_bands=12, width=16, hidden=8, n_layers=1)
SMALL = FlowArgs(predictor=PREDICTIVE, n_bands=10, n_fine=5, width=16, hidden=8, n_layers=2, steps=3)
BANDS = BandSplitArgs(RATE, n_fft=64, hop=16, bands=((2000, 500),), width=8, n_blocks=1, n_heads=2, hidden=8)


def make(args: FlowArgs = SMALL) -> Flow:
    torch.manual_seed(0)
    return Flow(args)


def trained(args: FlowArgs = SMALL, size: float = 0.3) -> Flow:
    """As after many steps: nothing of the denoiser is zero."""
    net = make(args)
    for parameter in net.denoiser.parameters():
        parameter.data += size * torch.randn(parameter.shape)
    return net.eval()


def constant_predictor(net: Flow, gain: float) -> Flow:
    """Whose frozen net answers with gain times the mixture, untouched by weights."""
    net.predictor.forward = lambda mixture: gain * mixture
    return net


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def given_by(net: Flow, mixture: torch.Tensor) -> Condition:
    return net.condition(mixture / spectrum.level(mixture))


def test_every_parameter_of_the_denoiser_has_a_finite_gradient_that_is_not_zero():
    net = trained().train()
    flow.loss(net, noise(2, 500), noise(2, 500) / 2, LossArgs())[0].backward()
    for name, parameter in net.denoiser.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name
    for last in (net.denoiser.time[2], net.denoiser.masks):  # every scale and shift of every layer, and every mask
        assert last.weight.grad.any(1).all()


def test_silence_has_finite_losses_and_gradients():
    net = trained().train()
    for mixture, target in ((torch.zeros(2, 500), torch.zeros(2, 500)), (noise(2, 500), torch.zeros(2, 500))):
        total, _ = flow.loss(net, mixture, target, LossArgs())
        total.backward()
        assert total.isfinite() and all(p.grad.isfinite().all() for p in net.denoiser.parameters())


@pytest.mark.parametrize("predictor", [PREDICTIVE, BANDS], ids=["fullband", "bandsplit"])
def test_args_come_back_from_a_checkpoint_also_from_one_of_before_their_predictor_had_a_field(predictor):
    args = replace(SMALL, predictor=predictor)
    saved = asdict(args)
    del saved["predictor"]["checkpointing"]
    assert FlowArgs(**asdict(args)) == FlowArgs(**saved) == args
    assert args.sample_rate == RATE


def checkpoint_of(args) -> dict:
    torch.manual_seed(5)
    net = {FullBandArgs: FullBand, BandSplitArgs: BandSplit}[type(args)](args)
    family = models.family_name(args)
    return {"family": family, "args": {"model": asdict(args)}, "ema": net.state_dict()}


@pytest.mark.parametrize("args", [PREDICTIVE, BANDS], ids=["fullband", "bandsplit"])
def test_at_first_the_flow_returns_what_its_predictor_estimates_however_that_was_trained(args, tmp_path):
    state = checkpoint_of(replace(args, checkpointing=True))
    checkpoint.save(tmp_path / "best.pt", state)
    models.start_from(net := make(replace(SMALL, predictor=args)), tmp_path / "best.pt")
    predictive = (FullBand if args is PREDICTIVE else BandSplit)(args)
    predictive.load_state_dict(state["ema"])
    mixture = noise(2, 501)
    for steps in (1, 4):
        net.args = replace(net.args, steps=steps)
        assert relative(net(mixture), predictive(mixture)) < 1e-3


@pytest.mark.parametrize("other, words", [
    (replace(PREDICTIVE, hop=8), "hop = 8 there, 16 here"), (BANDS, "family bandsplit there, fullband here"),
], ids=["hop", "family"])
def test_a_flow_takes_the_args_of_its_predictor_from_the_checkpoint_which_one_with_others_refuses(
    other, words, tmp_path
):
    checkpoint.save(tmp_path / "best.pt", checkpoint_of(other))
    assert models.adapted(SMALL, tmp_path / "best.pt") == replace(SMALL, predictor=other)
    assert models.adapted(PREDICTIVE, tmp_path / "best.pt") == PREDICTIVE
    with pytest.raises(UserError, match=rf"best\.pt: cannot initialise this net from it .{words}"):
        models.start_from(make(), tmp_path / "best.pt")


def test_a_predictor_that_is_too_small_for_the_flow_is_named(tmp_path):
    checkpoint.save(tmp_path / "best.pt", checkpoint_of(replace(PREDICTIVE, n_fft=16, hop=4, n_bands=4)))
    with pytest.raises(UserError, match=r"best\.pt: cannot initialise this net from it: FlowArgs.n_bands = \d+: give"):
        models.adapted(SMALL, tmp_path / "best.pt")


def test_training_leaves_the_predictor_as_it_is_in_eval_mode_and_moves_the_denoiser():
    net = trained().train()
    assert net.denoiser.training and not any(m.training for m in net.predictor.modules())
    before = deepcopy(net.state_dict())
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.5)
    flow.loss(net, noise(2, 500), noise(2, 500) / 2, LossArgs())[0].backward()
    optimizer.step()
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("predictor."), name
    assert {name for name, p in net.named_parameters() if p.requires_grad} == {
        f"denoiser.{name}" for name, _ in net.denoiser.named_parameters()
    }


def test_pieces_of_a_long_recording_come_out_as_in_one_go_although_there_is_noise():
    net = constant_predictor(make(replace(SMALL, steps=1, sigma=1.0)), 0.5)
    net.denoise = lambda x, given, t: x
    recording = torch.sin(0.3 * torch.arange(4000.0))[None]

    def pieces(told: float) -> torch.Tensor:
        """told: of where a piece starts, how much the net is told"""
        blocks = extract_long(
            lambda start, n: recording[:, start : start + n],
            lambda mixture, start: flow.extract(net, mixture, int(told * start))[0].detach().numpy(), 4000,
            chunk=900, context=200, fade=50,
        )
        return torch.from_numpy(np.concatenate(list(blocks)))[None]

    whole = net(recording)
    assert relative(pieces(told=1), whole) < 0.2 and relative(pieces(told=0), whole) > 0.4


def test_a_flow_has_no_layers_for_torch_compile_and_the_net_that_it_refines_has():
    net = make()
    assert not layers_of(net) and layers_of(net.predictor) == [*net.predictor.layers]


def test_where_the_predictor_hears_nothing_or_next_to_nothing_its_estimate_is_left_as_it_is():
    net, mixture = trained(size=3), noise(2, 2000)
    assert not constant_predictor(net, 0.0)(mixture).any()
    assert relative(constant_predictor(net, 0.03)(mixture), 0.03 * mixture) < 1e-3  # -30.5 dB
    assert relative(constant_predictor(net, 0.1)(mixture), 0.1 * mixture) > 0.1


def test_no_weights_take_the_flow_further_from_the_predictor_than_its_reach():
    net, mixture = trained(size=3), noise(1, 2000)
    given = given_by(net, mixture)
    x = net.denoise(net.start(given, 100 * noise(1, 2000)), given, torch.tensor([0.5]))
    assert ((x - given.estimate).abs() <= SMALL.reach * given.reach * 1.001 + 1e-6).all()
    assert (x - given.estimate).abs().max() > 0.5 * SMALL.reach * given.reach.max()


def test_the_noise_at_the_start_follows_the_level_of_the_estimate_bin_by_bin():
    net = constant_predictor(make(replace(SMALL, alpha=0.5)), 0.12)
    seconds = torch.arange(4000.0) / RATE
    mixture = torch.sin(2 * torch.pi * 1000 * seconds)[None]  # bin 8, of level 1 / sqrt(2)
    given, z = given_by(net, mixture), flow.noise(0, 4000)[None]
    added = (net.start(given, z) - given.estimate)[:, 50:-50].abs().square().mean(1)[0].sqrt()
    tone = spectrum.stft(0.12 * mixture / spectrum.level(mixture), 64, 16).mT[:, 50:-50]
    power = tone.abs().square().mean(1, keepdim=True)
    expected = SMALL.sigma * flow.local_level(power)[0, 0] ** 0.25
    assert_close(added[6:11], expected[6:11], rtol=0.15, atol=0)
    assert added[20:].max() < 0.05 * added[8]


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
    times, white = flow.drawn(torch.arange(1000), 50, torch.device("cpu"))
    assert kstest(times[0].numpy(), "uniform").pvalue > 0.001 and 0 < times.min() and times.max() <= 1
    assert white.std().item() == pytest.approx(1, abs=0.02) and len(white.unique(dim=0)) == 1000
    again = flow.drawn(torch.tensor([7, 3]), 50, torch.device("cpu"))
    assert all(map(torch.equal, again, (times[:, [7, 3]], white[[7, 3]])))


def test_in_training_the_loss_is_drawn_anew_by_torch_s_state_and_in_validation_nothing_is_drawn():
    def losses(net: Flow) -> list[float]:
        torch.manual_seed(3)
        return [flow.loss(net, noise(2, 300), noise(2, 300) / 2, LossArgs())[0].item() for _ in range(3)]

    training, validation = losses(trained().train()), losses(trained().eval())
    assert training == losses(trained().train()) and len({*training}) == 3
    assert len({*validation}) == 1


def test_the_denoiser_hears_the_time_and_the_levels_of_all_three_spectra():
    net, mixture = trained(), noise(1, 300)
    given = given_by(net, mixture)
    x = net.start(given, flow.noise(0, 300)[None])
    assert relative(net.denoise(x, given, torch.tensor([0.2])), net.denoise(x, given, torch.tensor([0.8]))) > 1e-3
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
