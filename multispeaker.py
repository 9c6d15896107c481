"""A full-band net for many speakers: the base that a new speaker's net starts from.

B batch · T samples · S speakers · P places · D width

Each speaker has a vector for every place where the net has biases: behind `enter` and behind every norm. It is added
there. So all other weights learn to follow the speaker they are told, and to drop everybody else. A net for one speaker
is a FullBand again, with that speaker's vectors in its biases.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

import fullband
from extractor import require
from fullband import FullBand, FullBandArgs

SCALE = 4.0  # of what is added over the weights: so they learn faster than others, as each speaker is heard seldom


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
        self.vectors = nn.Parameter(torch.zeros(args.n_speakers, args.n_layers + 2, args.width))

    def forward(self, mixture: Tensor, speakers: Tensor | None = None) -> Tensor:
        if speakers is None:
            vectors = self.vectors.mean(0, keepdim=True).expand(len(mixture), -1, -1)
        else:
            vectors = self.vectors[speakers.to(self.vectors.device)]
        return self.estimate(mixture, *(SCALE * vectors).unbind(1))

    def for_one(self, vectors: Tensor) -> FullBand:
        """Returns the net for one speaker. Vectors, [P, D]"""
        args = asdict(self.args)
        del args["n_speakers"]
        net = FullBand(FullBandArgs(**args))
        weights = self.state_dict()
        del weights["vectors"]
        net.load_state_dict(weights)
        with torch.no_grad():
            for bias, vector in zip(net.offset_biases(), SCALE * vectors, strict=True):
                bias.add_(vector)
        return net
