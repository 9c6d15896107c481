"""Does decoding slow extraction down? The same sound in a WAV file and in other containers, extracted in turn.

    python -m bench.containers --checkpoint runs/alice/best.pt --recording talk.flac --minutes 30
"""

import resource
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import av

import infer
from bench.timing import medians
from extractor import audio
from extractor.script import command_line
from extractor.tables import markdown

CONTAINERS = {  # suffix, rate: codec
    ("wav", 44100): "pcm_s16le", ("flac", 44100): "flac", ("m4a", 44100): "aac", ("mp3", 44100): "libmp3lame",
    ("wav", 48000): "pcm_s16le", ("mkv", 48000): "aac", ("webm", 48000): "libopus",
}


@dataclass(frozen=True)
class BenchArgs:
    checkpoint: str = "runs/speaker/best.pt"
    recording: str = "datasets/dirty/speaker/src_0.flac"  # repeated until it is long enough
    minutes: float = 10.0
    repeats: int = 3


def main(args: BenchArgs):
    with TemporaryDirectory() as folder:
        paths = [
            encode(Path(folder) / f"{rate}.{suffix}", codec, rate, args) for (suffix, rate), codec in CONTAINERS.items()
        ]

        def extract(path: Path):
            infer.main(infer.InferArgs(args.checkpoint, str(path), f"{folder}/out", overwrite=True, page_s=0))

        seconds = medians([lambda path=path: extract(path) for path in paths], args.repeats)
    taken = dict(zip(CONTAINERS, seconds, strict=True))
    rows = ([suffix, str(rate), f"{s:.1f}", f"{s / taken['wav', rate]:.2f}"] for (suffix, rate), s in taken.items())
    print(markdown(["container", "rate, Hz", "seconds", "over wav"], rows))
    print(f"{args.minutes:g} min each; at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def encode(path: Path, codec: str, rate: int, args: BenchArgs) -> Path:
    """Writes the recording over and over, in stereo at a rate."""
    source = audio.probe(args.recording)
    with av.open(str(path), "w") as out, audio.kept_open(source):
        stream = out.add_stream(codec, rate=rate, layout="stereo")
        stream.bit_rate = 160_000
        for minute in range(round(args.minutes)):
            start = minute * 60 * rate % max(1, source.length(rate) - 60 * rate)
            x = audio.read(source, start, 60 * rate, rate)
            frame = av.AudioFrame.from_ndarray(x[None].repeat(2, axis=0), "fltp", "stereo")
            frame.sample_rate, frame.pts = rate, minute * 60 * rate
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


if __name__ == "__main__":
    main(command_line(BenchArgs()))
