"""What every net promises, whatever its family: length, level, silence, batches, gradients, args that can work."""

import math
from dataclasses import asdict, fields, replace
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import BANDSPLIT, DPTNET, FULLBAND, RWKVNET, gradients, kept_bytes, noise
from torch import nn
from torch.testing import assert_close

import models
from bandsplit import BandSplitArgs
from dptnet import DPTNetArgs
from extractor import UserError, sigma
from extractor.parallel import Backward
from flow import FlowArgs
from fullband import FullBandArgs
from losses import LossArgs
from multispeaker import MultiSpeakerArgs
from rwkvnet import RWKVNetArgs


class Case(NamedTuple):
    args: models.Args
    spread: float = 0.0             # of what is added to the first weights, many of which are 0 and will not stay 0
    everywhere: bool = True         # or to those tensors alone that are all 0
    scale: float = 1e-5             # how far f(a x) / a may lie from f(x), over its peak
    batch: float = 1e-5             # how far an item may lie from itself alone, over its peak
    checkpointed: tuple[float, float] | None = (1e-6, 1e-9)  # how far gradients may lie apart, relative and absolute
    larger: dict = {}               # args of a net whose memory is in its layers ...
    kept: float = 1.0               # ... of which checkpointing keeps less than this share


FLOW = FlowArgs(FULLBAND, n_bands=10, n_fine=5, width=16, hidden=8, n_layers=2, steps=3)

DUAL = Case(DPTNET, larger={"bottleneck": 32, "hidden": 32, "n_blocks": 3}, kept=0.5)
BANDS = Case(
    BANDSPLIT, 0.2, scale=1e-4, checkpointed=(1e-5, 1e-9), larger={"width": 32, "hidden": 32, "n_blocks": 4}, kept=0.5
)
REFINED = Case(FLOW, 0.3, scale=1e-3, batch=1e-4, checkpointed=None)
CASES = {
    "dptnet": DUAL,
    "dptnet, stride 1": DUAL._replace(args=replace(DPTNET, kernel=2)),
    "dptnet, sigma-reparam": DUAL._replace(args=replace(DPTNET, sigma_reparam=True)),
    "rwkvnet": Case(
        RWKVNET, 0.3, everywhere=False, scale=2e-5, batch=2e-5, checkpointed=(1e-5, 1e-8),
        larger={"bottleneck": 32, "n_blocks": 3}, kept=0.1,
    ),
    "fullband": Case(FULLBAND, larger={"width": 32, "hidden": 32, "n_layers": 4}, kept=0.7),
    "multispeaker": Case(MultiSpeakerArgs(**asdict(FULLBAND), n_speakers=3), 0.1, checkpointed=(1e-5, 1e-9)),
    "bandsplit, lstm": BANDS,
    "bandsplit, attention": BANDS._replace(args=replace(BANDSPLIT, mixer="attention")),
    "bandsplit, sigma-reparam": BANDS._replace(args=replace(BANDSPLIT, mixer="attention", sigma_reparam=True)),
    "bandsplit, rwkv7": BANDS._replace(args=replace(BANDSPLIT, mixer="rwkv7")),
    "flow": REFINED,
    "flow of bandsplit": REFINED._replace(args=replace(FLOW, predictor=BANDSPLIT)),
}
PREDICTIVE = {name: case for name, case in CASES.items() if case.checkpointed}
every_net = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
every_predictive_net = pytest.mark.parametrize("case", PREDICTIVE.values(), ids=PREDICTIVE)


def make(case: Case, **changed) -> nn.Module:
    torch.manual_seed(0)
    args = replace(case.args, **changed)
    net = models.family_of(args).net(args)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad and case.spread and (case.everywhere or not parameter.any()):
                parameter += case.spread * torch.randn_like(parameter)
    return net


@every_net
def test_the_estimate_is_as_long_as_the_mixture(case):
    net, extract = make(case).eval(), models.family_of(case.args).extract
    around = {length + i for length in (16, 32, 64) for i in (-1, 0, 1)}  # kernels, hops and windows
    for n_samples in (1, 2, *sorted(around), 333, 4001):
        assert extract(net, noise(2, n_samples)).shape == (2, n_samples)


@every_net
def test_silence_in_gives_silence_out_also_beside_sound(case):
    net, beside = make(case), noise(2, 500) * torch.tensor([[1.0], [0.0]])
    assert torch.equal(net(torch.zeros(2, 500)), torch.zeros(2, 500))
    assert torch.equal(net(beside)[1], torch.zeros(500))


@every_net
@settings(max_examples=10)
@given(gain=st.floats(1e-4, 1e3))
def test_the_estimate_scales_with_the_mixture(case, gain):
    net, mixture = make(case).eval(), noise(1, 500)
    estimate = net(mixture)
    assert_close(net(gain * mixture) / gain, estimate, rtol=0, atol=case.scale * estimate.abs().max().item())


@every_net
def test_an_item_of_a_batch_does_not_see_the_others_nor_its_own_place(case):
    net, mixture = make(case), noise(3, 500) * torch.tensor([[0.01], [1.0], [100.0]])
    estimate, turned = net(mixture), net(mixture.flip(0)).flip(0)
    for item in range(3):
        alone = net(mixture[item][None])[0]
        for found in (estimate[item], turned[item]):
            assert_close(found, alone, rtol=0, atol=case.batch * alone.abs().max().item())


@every_predictive_net
@pytest.mark.parametrize("gain", [1, 0], ids=["sound", "silence"])
def test_the_gradients_of_a_mixture_and_every_parameter_are_finite_and_those_of_sound_are_not_zero(case, gain):
    mixture = (gain * noise(2, 500)).requires_grad_()
    found = gradients(make(case), mixture, target=noise(2, 500).flip(-1))
    for name, gradient in (found | {"mixture": mixture.grad}).items():
        assert gradient.isfinite().all() and (gradient.any() or not gain), name


@every_predictive_net
def test_checkpointing_leaves_the_gradients_and_the_buffers_as_they_are(case):
    plain, checkpointed = make(case).train(), make(case, checkpointing=True).train()
    buffers = {name: buffer.clone() for name, buffer in checkpointed.named_buffers()}
    mixture, target = noise(2, 500), noise(2, 500).flip(-1)
    relative, absolute = case.checkpointed
    assert_close(plain(mixture), checkpointed(mixture), rtol=1e-6, atol=1e-9)
    pairs = (gradients(net, mixture, target) for net in (plain, checkpointed))
    assert_close(*pairs, rtol=relative, atol=absolute)
    assert_close(dict(checkpointed.named_buffers()), buffers, rtol=0, atol=0)


@every_predictive_net
def test_checkpointing_keeps_a_share_of_the_memory(case):
    plain, checkpointed = (make(case, **case.larger, checkpointing=c).train() for c in (False, True))
    assert kept_bytes(checkpointed, noise(1, 2000)) < case.kept * kept_bytes(plain, noise(1, 2000))


@every_predictive_net
def test_parts_of_a_batch_on_threads_have_the_gradient_of_the_whole_also_after_a_step(case, threads):
    threads(3)
    net, mixture, target = make(case, checkpointing=True), noise(7, 500), noise(7, 500).flip(-1)

    def squared(net, mixture, target, _):
        return (net(mixture) - target).square().mean(), {}

    backward, optimizer = Backward(net, torch.device("cpu"), batch_size=7), torch.optim.AdamW(net.parameters(), lr=1e-3)
    batch = {"mixture": mixture, "target": target, "seed": torch.arange(7)}
    assert len(backward.nets) == 3
    for _ in range(2):
        expected = gradients(net, mixture, target)
        loss, _ = backward(squared, [batch], 7)
        assert_close(loss, squared(net, mixture, target, None)[0].detach())
        found = {name: p.grad for name, p in net.named_parameters()}
        assert_close(found, expected, rtol=1e-4, atol=1e-5 * max(g.abs().max().item() for g in expected.values()))
        optimizer.step()
        sigma.update(net)


@every_net
def test_in_half_precision_the_estimate_is_full_and_near(case):
    net, mixture = make(case).eval(), noise(2, 2000)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(mixture)
    assert rounded.dtype == torch.float32
    estimate = net(mixture)
    assert 0 < (rounded - estimate).square().mean() < 1e-3 * estimate.square().mean()


@every_predictive_net
def test_in_half_precision_the_gradients_point_where_they_should(case):
    case = case._replace(spread=min(case.spread, 0.1))  # far from any first weights RWKV-7 is chaotic
    net, mixture, target = make(case).train(), noise(2, 2000), noise(2, 2000).flip(-1)
    full = gradients(net, mixture, target)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = gradients(net, mixture, target)
    a, b = (torch.cat([g.flatten() for g in found.values()]) for found in (full, rounded))
    assert torch.cosine_similarity(a, b, dim=0) > 0.99


SIGMA = {name: case.args for name, case in CASES.items() if "sigma" in name}
every_sigma_net = pytest.mark.parametrize("args", SIGMA.values(), ids=SIGMA)
REPARAMETRIZED = {  # layer of each block -> factors: queries, keys and values have one each
    DPTNetArgs: {"attention.in_proj": 3, "attention.out_proj": 1, "linear": 1},
    BandSplitArgs: {"attention.in_proj": 3, "attention.out_proj": 1, "feedforward.conv": 1, "feedforward.linear": 1},
}


def initial(args: models.Args) -> nn.Module:
    return make(Case(args))


@every_sigma_net
def test_sigma_reparam_has_a_factor_a_matrix_which_starts_at_its_spectral_norm(args):
    net, plain = initial(args), initial(replace(args, sigma_reparam=False))
    gammas = {name: value for name, value in net.named_parameters() if name.endswith("gamma")}
    paths = "layers" if type(args) is DPTNetArgs else "paths"
    inside = {f"{paths}.{i}.{layer}": n for i in range(4) for layer, n in REPARAMETRIZED[type(args)].items()}
    around = ("bottleneck", "head.1", "value", "gate", "mask") if type(args) is DPTNetArgs else ()
    n_factors = inside | dict.fromkeys(around, 1)
    assert {name.removesuffix(".parametrizations.weight.0.gamma"): len(g) for name, g in gammas.items()} == n_factors
    for layer, n in n_factors.items():
        blocks = plain.get_submodule(layer).weight.flatten(1).chunk(n)
        expected = torch.stack([torch.linalg.matrix_norm(block, 2) for block in blocks])
        assert_close(gammas[f"{layer}.parametrizations.weight.0.gamma"], expected, rtol=1e-5, atol=0)


@every_sigma_net
def test_with_sigma_reparam_a_net_starts_as_the_plain_one(args):
    nets = initial(args), initial(replace(args, sigma_reparam=False))
    assert_close(*(net(noise(2, 500)) for net in nets), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("make, fields, words", [
    (DPTNetArgs, {"kernel": 33}, "DPTNetArgs.kernel = 33: give an even number of at least 2"),
    (DPTNetArgs, {"chunk_frames": 151}, "chunk_frames = 151: give an even number"),
    (DPTNetArgs, {"bottleneck": 62}, "bottleneck = 62: give a multiple of n_heads = 4"),
    (DPTNetArgs, {"fourier": True, "n_filters": 65}, "fourier = True: it needs n_filters = 2 . kernel = 64, not 65"),
    (RWKVNetArgs, {"n_heads": 1}, "n_heads = 1: give an even number of at least 2"),
    (RWKVNetArgs, {"n_heads": 3, "bottleneck": 63}, "n_heads = 3: give an even number of at least 2"),
    (RWKVNetArgs, {"n_heads": 4, "bottleneck": 62}, "bottleneck = 62: give a multiple of n_heads = 4"),
    (RWKVNetArgs, {"n_heads": 4, "bottleneck": 4}, "bottleneck = 4: give a multiple of n_heads = 4, at least 8"),
    (FullBandArgs, {"hop": 513}, "FullBandArgs.hop = 513: give at least 1 and at most a quarter of n_fft, 512"),
    (FullBandArgs, {"n_fft": 1023}, "n_fft = 1023: give an even number of at least 16"),
    (FullBandArgs, {"n_fft": 8, "hop": 2}, "n_fft = 8: give an even number of at least 16"),
    (FullBandArgs, {"n_bands": 1026}, "n_bands = 1026: give at least 2 and at most the 1025 bins of n_fft"),
    (FullBandArgs, {"n_bands": 1}, "n_bands = 1: give at least 2"),
    (BandSplitArgs, {"n_fft": 2047}, "BandSplitArgs.n_fft = 2047: give an even number"),
    (BandSplitArgs, {"width": 64.0}, "width = 64.0: give a whole number"),
    (BandSplitArgs, {"mixer": "mamba"}, "mixer = 'mamba': give one of attention, lstm, rwkv7"),
    (BandSplitArgs, {"width": 66, "mixer": "attention"}, "width = 66: .* give an even multiple of n_heads = 4"),
    (BandSplitArgs, {"width": 60, "mixer": "attention"}, "width = 60: .* give an even multiple of n_heads = 4"),
    (BandSplitArgs, {"width": 63, "n_heads": 3, "mixer": "rwkv7"}, "n_heads = 3: give an even number"),
    (BandSplitArgs, {"sigma_reparam": True, "mixer": "lstm"}, "sigma_reparam = True: .*, not lstm; set it to False"),
    (BandSplitArgs, {"bands": ((22050, 1000),)}, "bands = .*: 22050 Hz is not below .* rate, 22050.0; leave it out"),
    (BandSplitArgs, {"sample_rate": 16000}, "bands = .*: 8000 Hz is not below half .*, 8000.0; leave it out"),
    (BandSplitArgs, {"bands": ((1000, 10),)}, "bands = .*: no band of 10 Hz fits .* a bin is 21.5 Hz wide; give"),
    (BandSplitArgs, {"bands": ((1000, -100),)}, "bands = .*: no band of -100 Hz fits .* give a wider band"),
    (BandSplitArgs, {"bands": ((1000, math.nan),)}, "bands = .*: no band of nan Hz fits"),
    (BandSplitArgs, {"bands": ((math.nan, 100),)}, "bands = .*: nan Hz is not below half"),
    (BandSplitArgs, {"bands": ((1000, 100), (1000, 100))}, "no band of 100 Hz fits between 969 and 1000 Hz, .* higher"),
    (BandSplitArgs, {"bands": ((1000, 100), (500, 100))}, "fits between 969 and 500 Hz, .* a higher limit"),
    (BandSplitArgs, {"bands": ((22040, 400),)}, "they end at bin 1026, and no bin of 1025 is left .* lower 22040 Hz"),
    (FlowArgs, {"n_bands": 1026}, "n_bands = 1026: give at least 2 and at most the 1025 bins of predictor.n_fft"),
    (FlowArgs, {"n_bands": 1}, "n_bands = 1: give at least 2"),
    (FlowArgs, {"n_fine": 1026}, "n_fine = 1026: give at least 1 and at most the 1025 bins"),
    (FlowArgs, {"alpha": 0.0}, "alpha = 0.0: give more than 0 and at most 1"),
    (FlowArgs, {"alpha": 1.1}, "alpha = 1.1: give more than 0 and at most 1"),
    (FlowArgs, {"sigma": 0.0}, "sigma = 0.0: give a finite number over 0"),
    (FlowArgs, {"sigma": math.nan}, "sigma = nan: give a finite number over 0"),
    (FlowArgs, {"reach": math.inf}, "reach = inf: give a finite number over 0"),
    (FlowArgs, {"predictor": LossArgs()}, "predictor is a LossArgs: give one of FullBandArgs, BandSplitArgs"),
    (FlowArgs, {"predictor": {"volume": 11}}, "FlowArgs.predictor is a dict: give one of FullBandArgs, BandSplitArgs"),
])
def test_a_setting_that_cannot_work_is_refused_with_its_value_and_the_remedy(make, fields, words):
    with pytest.raises(UserError, match=words):
        make(**fields)


@pytest.mark.parametrize("make", [DPTNetArgs, RWKVNetArgs, FullBandArgs, BandSplitArgs, FlowArgs])
def test_no_count_of_anything_may_be_0(make):
    for name in (field.name for field in fields(make) if type(field.default) is int):
        with pytest.raises(UserError, match=rf"{make.__name__}\.{name} = 0: give (a whole|an even) number of at least"):
            make(**{name: 0})
