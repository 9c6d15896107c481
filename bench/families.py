"""What the nets cost: parameters, multiply-adds a second of audio, and how fast a CPU trains them and extracts.

    OMP_NUM_THREADS=1 python -m bench.families
    OMP_NUM_THREADS=1 python -m bench.families --presets fullband-light bandsplit-tiny --batch 1

Multiply-adds are those of matrix products, convolutions and LSTMs in items of 4 s, on which attention's share depends;
no FFT, norm, activation or (in RWKV-7) triangular system. Speed is audio over CPU time, the best of --passes: whatever
else runs on the machine slows a process less than it slows the clock. Training is forward and backward with the loss.
"""

import time
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import models
from extractor import precision, sigma, spectrum
from extractor.device import keep_freed_memory
from extractor.script import command_line
from losses import LossArgs

SECONDS = 4  # length of an item


@dataclass(frozen=True)
class BenchArgs:
    presets: tuple[str, ...] = tuple(name for name in models.PRESETS if name != "dptnet-paper")  # which takes minutes
    batch: int = 4
    passes: int = 3


class Cost(NamedTuple):
    n_parameters: int
    gmac_per_s: float


def cost(args: models.Args) -> Cost:
    """Parameters as trained; multiply-adds as extracted, of plain weights, counted on tensors without content."""
    net = models.family_of(args).net(args)
    n_parameters, net = sum(p.numel() for p in net.parameters()), sigma.fold(net).eval()
    without_content = FakeTensorMode(allow_non_fake_inputs=True)  # the weights
    with without_content, patch.object(spectrum, "stft", no_stft), patch.object(spectrum, "istft", no_istft):
        mixture = torch.zeros(1, SECONDS * args.sample_rate)
        return Cost(n_parameters, macs(net, net, mixture) / SECONDS / 1e9)


def no_stft(signal: Tensor, n_fft: int, hop: int) -> Tensor:
    """A spectrum's shape; the inverse transform looks at the values of its window, and here are none."""
    return torch.zeros(len(signal), n_fft // 2 + 1, 1 + signal.shape[-1] // hop, dtype=torch.complex64)


def no_istft(spectrum: Tensor, n_fft: int, hop: int, n_samples: int) -> Tensor:
    return torch.zeros(len(spectrum), n_samples)


def macs(function, net: nn.Module, *inputs: torch.Tensor) -> int:
    """Multiply-adds of function(*inputs), which calls what is in net.

    Whether torch counts an LSTM depends on what it is made of on the device: they are taken out and put in by hand.
    """
    counter, by_hand, before = FlopCounterMode(display=False), 0, 0

    def enter(lstm: nn.LSTM, _):
        nonlocal before
        before = counter.get_total_flops()

    def leave(lstm: nn.LSTM, inputs, _):
        nonlocal by_hand
        vectors = inputs[0].numel() // lstm.input_size
        by_hand += (1 + lstm.bidirectional) * vectors * 4 * lstm.hidden_size * (lstm.input_size + lstm.hidden_size)
        by_hand -= (counter.get_total_flops() - before) // 2

    lstms = [module for module in net.modules() if isinstance(module, nn.LSTM)]
    handles = [lstm.register_forward_pre_hook(enter) for lstm in lstms]
    handles += [lstm.register_forward_hook(leave) for lstm in lstms]
    with sdpa_kernel(SDPBackend.MATH), counter:  # attention as products, which are counted on every device
        function(*inputs)
    for handle in handles:
        handle.remove()
    return counter.get_total_flops() // 2 + by_hand


def cpu_s(function, passes: int) -> float:
    taken = []
    for _ in range(passes + 1):  # the first one warms up
        start = time.process_time()
        function()
        taken.append(time.process_time() - start)
    return min(taken[1:])


def speeds(args: models.Args, batch: int, passes: int) -> tuple[float, float, float]:
    """Seconds of audio per CPU second: of training in fp32, of training in bf16, of extraction."""
    family = models.family_of(args)
    net, mixture = family.net(args), 0.1 * torch.randn(batch, SECONDS * args.sample_rate)

    def train(name: str):
        net.train().zero_grad()
        with precision.autocast(mixture.device, name):
            loss, _ = family.loss(net, mixture, 0.5 * mixture, LossArgs())
        loss.backward()

    training = (batch * SECONDS / cpu_s(partial(train, name), passes) for name in ("fp32", "bf16"))
    return *training, extraction_speed(args, passes)


@torch.inference_mode()
def extraction_speed(args: models.Args, passes: int = 3) -> float:
    """Seconds of audio per CPU second."""
    family = models.family_of(args)
    net, mixture = sigma.fold(family.net(args)).eval(), 0.1 * torch.randn(1, SECONDS * args.sample_rate)
    return SECONDS / cpu_s(lambda: family.extract(net, mixture), passes)


def main(args: BenchArgs):
    keep_freed_memory()
    print(f"{args.batch} x {SECONDS} s, {torch.get_num_threads()} CPU threads, torch {torch.__version__}\n")
    print("seconds of audio per CPU second:\n")
    print("| preset | parameters | GMAC/s | training in fp32 | training in bf16 | extraction |")
    print("|---|---|---|---|---|---|")
    for name in args.presets:
        n_parameters, gmac_per_s = cost(models.PRESETS[name])
        full, half, whole = speeds(models.PRESETS[name], args.batch, args.passes)
        print(f"| `{name}` | {n_parameters:,} | {gmac_per_s:.2f} | {full:.1f} | {half:.1f} | {whole:.0f} |", flush=True)


if __name__ == "__main__":
    main(command_line(BenchArgs()))
