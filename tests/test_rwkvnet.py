"""What the RWKVNet family promises. The layers are in test_rwkv7.py, filterbanks and chunks in test_dptnet.py."""


import torch
from nets import RWKVNET, gradients, noise
from torch import nn
from torch.testing import assert_close

from rwkvnet import RWKVNet, RWKVNetArgs

ZERO_AT_FIRST = ("time_mix.output.weight", "channel_mix.value.weight")  # so that a layer starts as the identity


def make(args: RWKVNetArgs = RWKVNET) -> RWKVNet:
    """A net whose layers do something."""
    torch.manual_seed(0)
    net = RWKVNet(args)
    for name, parameter in net.named_parameters():
        if name.endswith((*ZERO_AT_FIRST, ".down")):
            nn.init.normal_(parameter, std=0.3)
    return net


def test_two_steps_after_the_start_every_parameter_learns():
    torch.manual_seed(0)
    net = RWKVNet(RWKVNET)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(2):  # the output projections, then the LoRAs' first matrices, which are zero as well
        gradients(net, noise(2, 500), target=noise(2, 500).flip(-1))
        optimizer.step()
    for name, gradient in gradients(net, noise(2, 500), target=noise(2, 500).flip(-1)).items():
        assert gradient.isfinite().all() and gradient.any(), name


def test_the_paths_are_layers_inside_each_chunk_and_across_the_chunks_each_with_the_values_of_its_first():
    net, chunks = make(), noise(2, 5, 10, RWKVNET.bottleneck)
    x, inside, across = chunks.clone(), {}, {}
    for block in range(RWKVNET.n_blocks):
        for item in range(2):
            for s in range(5):
                out, inside[item, s] = net.layers[2 * block](x[item, s][None], inside.get((item, s)))
                x = x.index_put((torch.tensor(item), torch.tensor(s)), out[0])
            for k in range(10):
                out, across[item, k] = net.layers[2 * block + 1](x[item, :, k][None], across.get((item, k)))
                x = x.clone()
                x[item, :, k] = out[0]
    assert_close(net.paths(chunks), net.norm_out(x), rtol=0, atol=1e-4)
