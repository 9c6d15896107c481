"""The curves that training left beside a checkpoint, from TensorBoard's event files."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

LONGEST = 4096  # bytes of an event with one number; what is longer is sound and pictures


def read(folder: str | Path) -> dict[str, list[tuple[int, float]]]:
    """Name of the curve -> (step, value), in order. Empty where there is none. A run that was taken up again at a step
    takes back what an earlier one did from there on.
    """
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for path in sorted(Path(folder).glob("events.out.tfevents.*")):
        for event in events(path):
            if event.session_log.status == SessionLog.START:
                found = defaultdict(dict, {
                    tag: {step: x for step, x in points.items() if step < event.step} for tag, points in found.items()
                })
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found[value.tag][event.step] = value.simple_value
    return {tag: sorted(points.items()) for tag, points in found.items() if points}


def events(path: Path) -> Iterator[Event]:
    """The short ones of a file, up to where it is damaged or cut off.

    TensorBoard's own reader takes minutes, since it looks at every byte of the sound too. Here the records' lengths
    (uint64, crc32, record, crc32) say what to pass over.
    """
    size = path.stat().st_size
    with open(path, "rb") as f:
        while len(head := f.read(12)) == 12:
            length = int.from_bytes(head[:8], "little")
            if f.tell() + length + 4 > size:
                return
            if length > LONGEST:
                f.seek(length + 4, 1)
                continue
            try:
                yield Event.FromString(f.read(length))
            except DecodeError:
                return
            f.read(4)
