"""A full-band net for many speakers: the base that a new speaker's net starts from.

B batch · T samples · S speakers · P places · D width

Each speaker has two vectors for every place where the net has a weight and a bias for each of its D numbers: behind
`enter` and behind every norm. One scales what is there, one is added. So all other weights learn to follow the speaker
they are told, and to drop everybody else. A net for one speaker is a FullBand again, with that speaker's vectors in the
weights and biases of these places.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

import fullband
from extractor import require
from fullband import FullBand, FullBandArgs
from losses import LossArgs, log_mse

ROUNDS = (2, 0.25), (4, 0.1), (8, 0.05)  # of `nearest`: so many items are heard, such a share of the speakers remains
N_ITEMS = sum(n for n, _ in ROUNDS)
SCALE = 4.0  # of what they do over the weights: so they learn faster than others, as each speaker is heard seldom


@dataclass(frozen=True)
class MultiSpeakerArgs(FullBandArgs):
    n_speakers: int = 1  # S; train.py counts them: each folder of MixtureArgs.clean is a speaker

    def __post_init__(self):
        super().__post_init__()
        require(self, "n_speakers", self.n_speakers >= 1, "give 1 or more")


PRESETS = {name: MultiSpeakerArgs(**asdict(args)) for name, args in fullband.PRESETS.items()}


class MultiSpeaker(FullBand):
    """[B, T] -> [B, T], any T >= 1, for the speakers with these numbers, [B]; without numbers for their mean."""

    muon_excluded = *FullBand.muon_excluded, "vectors"

    def __init__(self, args: MultiSpeakerArgs):
        super().__init__(args)
        self.vectors = nn.Parameter(torch.zeros(args.n_speakers, len(self.places()), 2, args.width))

    def forward(self, mixture: Tensor, speakers: Tensor | None = None) -> Tensor:
        if speakers is None:
            vectors = self.vectors.mean(0, keepdim=True).expand(len(mixture), -1, -1, -1)
        else:
            vectors = self.vectors[speakers.to(self.vectors.device)]
        return self.estimate(mixture, *(SCALE * vectors).permute(1, 2, 0, 3))  # [P, 2, B, D]

    def for_one(self, vectors: Tensor) -> FullBand:
        """Returns the net for one speaker. Vectors, [P, 2, D]"""
        args = asdict(self.args)
        del args["n_speakers"]
        net = FullBand(FullBandArgs(**args))
        weights = self.state_dict()
        del weights["vectors"]
        net.load_state_dict(weights)
        with torch.no_grad():
            for place, (less_1, added) in zip(net.places(), SCALE * vectors, strict=True):
                scale = 1 + less_1
                place.weight.mul_(scale if place.weight.ndim == 1 else scale[:, None])
                place.bias.mul_(scale).add_(added)
        return net


@torch.no_grad()
def nearest(net: MultiSpeaker, mixture: Tensor, target: Tensor) -> list[int]:
    """Returns the numbers of the speakers whom a new speaker is most like, the most alike first: told to follow them,
    the net has the least log-MSE. Mixtures and targets, [N_ITEMS, T], are of the new speaker. A few are heard by all
    speakers, and more by the best of them, so that it takes seconds."""
    tau, losses, first = LossArgs().tau, torch.zeros(net.args.n_speakers, dtype=torch.float64), 0
    remaining = list(range(net.args.n_speakers))
    for n_items, share in ROUNDS:
        x, wanted = mixture[first : first + n_items], target[first : first + n_items]
        for speaker in remaining:
            error = wanted - net(x, torch.full((len(x),), speaker))
            losses[speaker] += log_mse(error=error, mixture=x, tau=tau).sum().item()
        remaining.sort(key=lambda speaker: losses[speaker].item())
        remaining = remaining[: max(1, round(share * net.args.n_speakers))]
        first += n_items
    return remaining
