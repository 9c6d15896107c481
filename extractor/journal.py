"""What a run tells while it runs: a bar, TensorBoard's curves and examples, and the curves once more as a table."""

import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from extractor import curves, report
from extractor.loader import n_cores

EVERY = 20          # steps from one point of the training curves to the next
EXAMPLES_S = 180.0  # at least, from examples to the next ones
LONG_WAIT = 0.2     # a share of the time

Batch = TypeVar("Batch")


class Journal:
    """The progress bar and the curves of a run from a step on. What was written about later steps is removed."""

    def __init__(self, folder: Path, step: int, steps: int):
        self.folder = folder
        self.table = curves.Table(folder, step)
        self.writer = SummaryWriter(str(folder), purge_step=step + 1)
        self.bar = tqdm(total=steps, initial=step, unit="step", dynamic_ncols=True, mininterval=1)
        self.examples_at = -math.inf
        self.readings, self.waits = 0, False

    def step(self, values: Mapping[str, float], counts: Mapping[str, int]):
        """Moves the bar by a step. Counts are shown from 1 on."""
        self.bar.update()
        shown = {name: f"{value:.2f}" for name, value in values.items()}
        self.bar.set_postfix(shown | {name: n for name, n in counts.items() if n}, refresh=False)

    def point(self, kind: str, step: int, values: Mapping[str, float]):
        """Adds a point to the curves <kind>/<name>."""
        named = {f"{kind}/{name}": value for name, value in values.items()}
        self.table.add(step, named)
        with curves.writing(self.folder):  # TensorBoard's thread writes; what failed there is raised here
            for name, value in named.items():
                self.writer.add_scalar(name, value, step)

    def pace(self, rates: Mapping[str, float], steps_left: int):
        """Once: how long it will take, and that mixtures are waited for. In the first reading all starts up."""
        self.readings += 1
        if self.readings == 2:
            hours = steps_left / rates["steps_per_s"] / 3600
            self.say(f"about {3600 * rates['steps_per_s']:,.0f} steps an hour, {hours:.1f} hours to go")
        if self.readings > 1 and rates["data_wait"] > LONG_WAIT and not self.waits:
            self.waits = True
            share, cores = f"{rates['data_wait']:.0%}", n_cores()
            self.say(f"{share} of the time goes by waiting for mixtures: try more --workers ({cores} cores are here)")

    def wants_examples(self, better: bool) -> bool:
        """Of the first validation, and then of better ones, every few minutes at most: they take seconds, and disk."""
        return self.examples_at == -math.inf or better and time.monotonic() - self.examples_at >= EXAMPLES_S

    def examples(self, step: int, items: Mapping[str, dict], estimates: list, sample_rate: int):
        """Shows sound and spectrograms of validation items, by name."""
        self.examples_at = time.monotonic()
        with curves.writing(self.folder):
            report.add_examples(self.writer, step, items, estimates, sample_rate)
            self.writer.flush()

    def say(self, line: str):
        tqdm.write(line)

    def close(self):
        self.bar.close()
        self.writer.close()


class NoJournal:
    """A journal for the processes of a team but the first: of whatever it is told it makes nothing."""

    def __getattr__(self, name: str):
        return lambda *_: None


class Meter:
    """The speed of steps and the time spent waiting for mixtures. `restart` leaves out what lies between steps."""

    def __init__(self, device: torch.device, heard_s: float):
        """heard_s: seconds of audio in a step"""
        self.device, self.heard_s = device, heard_s
        self.restart()

    def restart(self):
        self.steps, self.waited, self.since = 0, 0.0, time.monotonic()

    def waiting(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yields the batches, one a step, and notes how long each was waited for."""
        started = time.monotonic()
        for batch in batches:
            self.waited += time.monotonic() - started
            self.steps += 1
            yield batch
            started = time.monotonic()

    def read(self) -> dict[str, float]:
        """Returns the rates since the last restart or reading."""
        taken = max(1e-9, time.monotonic() - self.since)
        rates = {
            "steps_per_s": self.steps / taken, "audio_s_per_s": self.steps * self.heard_s / taken,
            "data_wait": self.waited / taken, "memory_gib": memory_gib(self.device),
        }
        self.restart()
        return rates


def memory_gib(device: torch.device) -> float:
    """Returns the most memory that this process has had, of the GPU or of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    try:
        import resource
    except ImportError:  # on Windows
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
