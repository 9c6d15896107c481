"""RWKVNet: the dual-path network of DPTNet (Chen et al. 2020) with RWKV-7 (Peng et al. 2025) in place of transformers.

B batch · N bottleneck width · K frames per chunk · S chunks; the filterbanks and chunks are DPTNet's

In both paths half of an RWKV-7 layer's heads read the frames forward in time and half backward, at a cost that grows
with the number of frames, where attention's grows with its square.
"""

from dataclasses import dataclass

from einops import rearrange
from torch import Tensor, nn

from dptnet import DualPath, DualPathArgs
from extractor import rwkv7
from extractor.layers import checkpointed


@dataclass(frozen=True)
class RWKVNetArgs(DualPathArgs):
    n_blocks: int = 5          # D; each a layer inside the chunks and one across
    n_heads: int = 2           # even, half for each direction; heads of 32 are the fastest on a CPU

    def __post_init__(self):
        super().__post_init__()
        rwkv7.check_heads(self, "bottleneck")


PRESETS = {
    "coarse": RWKVNetArgs(kernel=256, n_filters=512, n_blocks=3, chunk_frames=52, fourier=True),  # for a CPU
    "small": RWKVNetArgs(),
    "base": RWKVNetArgs(bottleneck=128, n_blocks=6, n_heads=4, chunk_frames=166),
}


class RWKVNet(DualPath):
    """A dual path of RWKV-7 layers, with what `DualPath` promises. [B, T] -> [B, T]"""

    def __init__(self, args: RWKVNetArgs):
        depths = [i // 2 for i in range(2 * args.n_blocks)]
        super().__init__(args, (rwkv7.Layer(args.bottleneck, args.n_heads, i, args.n_blocks) for i in depths))
        self.norm_out = nn.LayerNorm(args.bottleneck)  # the layers only ever add to their input

    def paths(self, chunks: Tensor) -> Tensor:
        """Runs the layers, in turn inside each chunk and across chunks. [B, S, K, N] -> [B, S, K, N]"""
        batch, v_first = chunks.shape[0], [None, None]  # the values of the first layer of each path
        x = rearrange(chunks, "b s k n -> (b s) k n")
        for i, layer in enumerate(self.layers):  # in turn inside each chunk, along k, and across chunks, along s
            x, v_first[i % 2] = checkpointed(layer, x, v_first[i % 2], enabled=self.args.checkpointing)
            x = rearrange(x, "(b there) here n -> (b here) there n", b=batch)
        return rearrange(self.norm_out(x), "(b s) k n -> b s k n", b=batch)
