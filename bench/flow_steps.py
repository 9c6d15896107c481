"""What more steps of a flow give and what they cost, beside the predictive net that it starts from.

    python -m bench.flow_steps --checkpoint runs/alice_flow/best.pt --pairs evaluation

SI-SDR falls with the steps, as it must: one of the things that may have been is twice as far from what was as their
mean. The log-spectral distance tells whether the spectrum has become more like that of speech.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

import models
from extractor import UserError, audio, metrics
from extractor.command import command_line
from extractor.pairs import describe, find_pairs
from extractor.scores import MEASURES, groups_of, interval, markdown
from flow import FlowArgs

N_FFT = 2048
FLOOR_DB = -60.0   # under the target's loudest frame: what is below is equally silent
ACTIVE_DB = -40.0  # the same of frames that count


@dataclass(frozen=True)
class BenchArgs:
    checkpoint: str = "runs/speaker/best.pt"
    pairs: str = "evaluation"
    steps: tuple[int, ...] = (1, 2, 4, 8)
    device: str = "cpu"


def main(args: BenchArgs):
    net, family = models.load(args.checkpoint)
    if not isinstance(net.args, FlowArgs):
        raise UserError(f"{args.checkpoint}: holds no flow; give the checkpoint of one")
    net.to(args.device)
    trained, rate = net.args, net.args.sample_rate

    def in_steps(n: int) -> Callable[[Tensor], Tensor]:
        def extract(mixture: Tensor) -> Tensor:
            net.args = replace(trained, steps=n)
            return family.extract(net, mixture)
        return extract

    systems = {"predictor": net.predictor} | {f"N = {n}": in_steps(n) for n in args.steps}
    items, rows = [], {name: [] for name in systems}
    for pair in find_pairs(Path(args.pairs)):
        signals = [audio.read(r, 0, r.length(rate), rate) for r in (pair.mixture, pair.target)]
        items.append(describe(pair, *signals))
        mixture, target = (torch.from_numpy(x)[None].to(args.device) for x in signals)
        for name, extract in systems.items():
            rows[name].append(measure(extract, mixture, target, rate))
    print(table(items, rows))


@torch.inference_mode()
def measure(extract: Callable[[Tensor], Tensor], mixture: Tensor, target: Tensor, sample_rate: int) -> dict[str, float]:
    started = time.perf_counter()
    estimate = extract(mixture).cpu()  # which waits for a GPU
    row = {"cost": (time.perf_counter() - started) * sample_rate / mixture.shape[-1]}
    mixture, target = mixture.cpu(), target.cpu()
    if not target.any():
        return row | {"attenuation": metrics.attenuation(estimate=estimate, mixture=mixture).item()}
    gain = metrics.si_sdri(estimate=estimate, mixture=mixture, reference=target).item()
    return row | {"si_sdri": gain, "lsd": log_spectral_distance(estimate=estimate, reference=target).item()}


def log_spectral_distance(*, estimate: Tensor, reference: Tensor) -> Tensor:
    """Root mean square over bins of the difference in dB, mean over the reference's active frames. [B, T] -> [B], dB"""
    window = torch.hann_window(N_FFT)
    e, x = (
        torch.stft(s, N_FFT, N_FFT // 4, window=window, pad_mode="constant", return_complex=True).abs().square()
        for s in (estimate, reference)
    )
    levels = x.mean(-2)  # [B, L]
    loudest = levels.amax(-1, keepdim=True)
    floor = 10 ** (FLOOR_DB / 10) * loudest[..., None]
    distance = (10 * torch.log10((e + floor) / (x + floor))).square().mean(-2).sqrt()
    active = levels > 10 ** (ACTIVE_DB / 10) * loudest
    return (distance * active).sum(-1) / active.sum(-1)


def table(items: list[dict], rows: dict[str, list[dict]]) -> str:
    """Means and 95 % intervals over pairs, a line for each system."""
    def cell(of: list[dict], group: list[int], name: str) -> str:
        found = interval([of[i][name] for i in group if name in of[i]])
        return found.text(MEASURES["si_sdri" if name == "lsd" else name]).replace("+", "" if name == "lsd" else "+")

    groups = groups_of(items)
    columns = [(kind, name) for kind, group in groups.items() for name in ("si_sdri", "lsd", "attenuation")
               if any(name in next(iter(rows.values()))[i] for i in group)]
    titles = {"si_sdri": "SI-SDRi", "lsd": "LSD", "attenuation": MEASURES["attenuation"].title}
    head = ["system", *(f"{titles[name]}, {kind}" for kind, name in columns), "s per s of audio"]
    return markdown(head, (
        [system, *(cell(of, groups[kind], name) for kind, name in columns),
         f"{sum(row['cost'] for row in of) / len(of):.4f}"]
        for system, of in rows.items()
    ))


if __name__ == "__main__":
    main(command_line(BenchArgs()))
