"""What the band-split family promises."""

import cmath
import math
from dataclasses import replace

import pytest
import torch
from nets import BANDSPLIT, noise
from torch import nn
from torch.testing import assert_close

from bandsplit import COARSE, FINE, PRESETS, Attention, BandSplit, BandSplitArgs, ConvSwiGLU, zones
from bench.families import macs
from extractor.layers import rotate

BINS = [[f] for f in range(8)] + [[8, 9], [10, 11], [12, 13], [14, 15], list(range(16, 33))]
PLACES = [(0, i) for i in range(8)] + [(1, i) for i in range(4)] + [(2, 0)]  # the zone, and the band of it
MIXERS = {
    "lstm": BANDSPLIT,
    "attention": replace(BANDSPLIT, mixer="attention"),
    "sigma": replace(BANDSPLIT, mixer="attention", sigma_reparam=True),
    "rwkv7": replace(BANDSPLIT, mixer="rwkv7"),
}
every_mixer = pytest.mark.parametrize("args", MIXERS.values(), ids=MIXERS)


def make(args: BandSplitArgs = BANDSPLIT) -> BandSplit:
    """A net some way from its first weights, where much is 0 that will not stay 0."""
    torch.manual_seed(0)
    net = BandSplit(args)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return net


def spectra(batch: int = 1, n_frames: int = 12) -> torch.Tensor:
    return noise(batch, 33, n_frames, dtype=torch.complex128)


@pytest.mark.parametrize("name", PRESETS)
def test_a_net_begins_with_half_of_the_mixture(name):
    torch.manual_seed(0)
    mixture = noise(1, 20000)
    error = BandSplit(PRESETS[name])(mixture) - mixture / 2
    assert error.square().mean() < 0.05**2 * mixture.square().mean()


@pytest.mark.parametrize("n_samples", [1, 63, 1001])
def test_a_mask_of_one_and_no_residual_return_the_mixture(n_samples):
    net, mixture = make(), noise(2, n_samples)
    for linear, (_, w) in zip(net.decoder.linears, zones(BANDSPLIT), strict=True):
        linear.weight.data.zero_()
        linear.bias.data.zero_()
        linear.bias.data[..., 0 : 2 * w : 2] = 1
    assert_close(net(mixture), mixture, rtol=0, atol=1e-6)


def test_the_mask_turns_the_phase():
    net, phase = make(), 2 * math.pi * 1000 * torch.arange(2000) / 8000
    net.masks = lambda x: (torch.full_like(x, cmath.rect(0.5, math.pi / 3)), torch.zeros_like(x))
    estimate = net(phase.cos()[None])[0]
    assert_close(estimate[100:-100], 0.5 * (phase + math.pi / 3).cos()[100:-100], rtol=0, atol=1e-4)


def test_zones_by_hand():
    # bins of 21.53 Hz. 125 Hz: 6 bins (5.8), 8 of them nearest to bin 46.4; 300 Hz: 14 (13.9), 10 of them from bin 48
    # nearest to 185.8; 800 Hz: 37 (37.2), 5 from 188 to 371.5; 2000 Hz: 93 (92.9), 4 from 373 to 743.0; 280 up to 1025
    assert zones(replace(PRESETS["tiny"], bands=COARSE)) == [(8, 6), (10, 14), (5, 37), (4, 93), (1, 280)]
    assert zones(BANDSPLIT) == [(8, 1), (4, 2), (1, 17)]
    assert zones(replace(BANDSPLIT, bands=())) == [(1, 33)]


@pytest.mark.parametrize("n_fft", [1024, 2048, 4096, 8192])
def test_bands_keep_their_place_in_hz_whatever_the_window(n_fft):
    args = BandSplitArgs(n_fft=n_fft, hop=256, bands=FINE if n_fft > 1024 else COARSE)
    assert sum(n * w for n, w in zones(args)) == n_fft // 2 + 1
    start = 0
    for (n, w), (up_to_hz, width_hz) in zip(zones(args), args.bands, strict=False):
        start += n * w
        assert abs(start * 44100 / n_fft - up_to_hz) <= width_hz / 2 + 22050 / n_fft


def test_the_encoder_by_hand():
    encoder, mixture = make().double().encoder, spectra(batch=2, n_frames=3)
    x = encoder(mixture)
    for k, (bins, (zone, band)) in enumerate(zip(BINS, PLACES, strict=True)):
        for item in range(2):
            for n in range(3):
                values = torch.view_as_real(mixture[item, bins, n]).flatten()
                power = values.square().mean() + 1e-8
                heard = torch.cat([values / power.sqrt(), 0.1 * power.log()[None]])
                expected = heard @ encoder.linears[zone].weight[band] + encoder.linears[zone].bias[band, 0]
                assert_close(x[k, n * 2 + item], expected)


def test_the_decoder_by_hand():
    decoder, x = make().double().decoder, noise(13, 5 * 2, 8, dtype=torch.float64)
    found = torch.stack(decoder(x, batch=2))  # mask and residual
    for k, (bins, (zone, band)) in enumerate(zip(BINS, PLACES, strict=True)):
        for item in range(2):
            for n in range(5):
                vector = x[k, n * 2 + item]
                vector = vector / (vector.square().mean() + 1e-6).sqrt() * decoder.norm.weight
                value, gate = (vector @ decoder.hidden.weight[k] + decoder.hidden.bias[k, 0]).chunk(2)
                out = (value * gate.sigmoid()) @ decoder.linears[zone].weight[band]
                out = out + decoder.linears[zone].bias[band, 0]
                assert_close(torch.view_as_real(found[:, item, bins, n]).flatten(), out)


class Skip(nn.Module):
    def forward(self, x, first):
        return x, first


@every_mixer
@pytest.mark.parametrize("without, hearing", [
    ((1, 3), {(1, 9, n) for n in range(12)}), ((0, 2), {(1, k, 7) for k in range(13)}), ((0, 1, 2, 3), {(1, 9, 7)}),
], ids=["even paths", "odd paths", "no paths"])
def test_even_paths_go_along_time_inside_a_band_and_odd_ones_along_the_bands_inside_a_frame(args, without, hearing):
    """Each (item, band, frame) whose mask changes with band 9 of frame 7 of item 1."""
    net, mixture = make(args).double(), spectra(batch=2)
    for i in without:
        net.paths[i] = Skip()
    changed = mixture.clone()
    changed[1, 10, 7] += 1
    change = (net.masks(changed)[0] - net.masks(mixture)[0]).abs() > 1e-13
    band_of = {f: k for k, bins in enumerate(BINS) for f in bins}
    assert {(b, band_of[f], n) for b, f, n in change.nonzero().tolist()} == hearing


def test_rope_is_a_rotation_of_complex_numbers():
    x = noise(5, 8)
    numbers = torch.complex(x[:, :4], x[:, 4:])
    for s in range(5):
        for i, frequency in enumerate([1, 0.1, 0.01, 0.001]):  # 10000^(-2i/8)
            turned = complex(numbers[s, i]) * cmath.exp(1j * s * frequency)
            assert rotate(x)[s, i].item() == pytest.approx(turned.real, abs=1e-6)
            assert rotate(x)[s, i + 4].item() == pytest.approx(turned.imag, abs=1e-6)


def test_attention_by_hand():
    torch.manual_seed(0)
    attention, x = Attention(dim=8, n_heads=2, bias=False, rotary=True), noise(5, 3, 8) * 10
    w_q, w_k, w_v = attention.in_proj.weight.chunk(3)
    for n in range(3):
        heads = []
        for head in (slice(0, 4), slice(4, 8)):
            q, k, v = rotate(x[:, n] @ w_q[head].T), rotate(x[:, n] @ w_k[head].T), x[:, n] @ w_v[head].T
            heads.append((q @ k.T / 2).softmax(dim=1) @ v)
        expected = torch.cat(heads, dim=1) @ attention.out_proj.weight.T
        assert_close(attention(x)[:, n], expected, rtol=1e-5, atol=1e-6)


def test_the_feedforward_by_hand():
    feedforward, x = ConvSwiGLU(dim=4, hidden=3), noise(5, 2, 4)
    weight, bias = feedforward.conv.weight, feedforward.conv.bias
    around = torch.cat([torch.zeros(1, 2, 4), x, torch.zeros(1, 2, 4)])
    for s in range(5):
        value, gate = (sum(around[s + i] @ weight[:, :, i].T for i in range(3)) + bias).chunk(2, dim=1)
        expected = feedforward.linear(value * gate * gate.sigmoid())
        assert_close(feedforward(x)[s], expected, rtol=1e-5, atol=1e-6)


@every_mixer
def test_a_path_only_adds_to_its_input(args):
    last = (".out_proj.", "feedforward.linear.", "path.linear.", "time_mix.output.", "channel_mix.value.")
    path, x = nn.ModuleDict({"path": make(replace(args, sigma_reparam=False)).paths[0]}), noise(7, 3, 8)
    assert (path["path"](x, None)[0] - x).abs().mean() > 0.01
    for name, parameter in path.named_parameters():
        if any(end in name for end in last):
            parameter.data.zero_()
    assert_close(path["path"](x, None)[0], x)


def test_multiply_adds_of_an_lstm_by_hand():
    # 7 steps, 2 sequences, 2 directions; 4 gates of 5 units, each a sum over 3 inputs and 5 units; then 10 -> 1
    net = nn.ModuleList([nn.LSTM(3, 5, bidirectional=True), nn.Linear(10, 1)])
    assert macs(lambda x: net[1](net[0](x)[0]), net, torch.zeros(7, 2, 3)) == 7 * 2 * (2 * 4 * 5 * (3 + 5) + 10)


def test_multiply_adds_of_attention_by_hand():
    # 7 steps, 2 sequences, width 8: four projections; every pair of steps is a product for its weight, another by it
    net = Attention(dim=8, n_heads=2, bias=False, rotary=True)
    assert macs(net, net, torch.zeros(7, 2, 8)) == 7 * 2 * 4 * 8 * 8 + 2 * 2 * 7 * 7 * 8
