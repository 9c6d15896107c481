"""Pages of made-up reports, opened in Chromium, looked at and listened to.

What is heard is recorded behind the page's own gains, as long as the page plays, and compared with the signals.
"""

import base64
import fcntl
import io
import json
import re
import shutil
from itertools import groupby

import numpy as np
import pytest
import soundfile as sf
from scipy.signal import correlate

from extractor import page as pages
from extractor.scoring import differences, means

RATE = 16000  # so that the recorder, 32768 samples, holds two seconds
RECORDER = """
const connect = AudioNode.prototype.connect
AudioNode.prototype.connect = function (to, ...rest) {
  if (to instanceof AudioDestinationNode && this !== window.recorder) {
    if (!window.recorder) connect.call(window.recorder = new AnalyserNode(this.context, {fftSize: 32768}), to)
    to = window.recorder
  }
  return connect.call(this, to, ...rest)
}
const start = AudioBufferSourceNode.prototype.start
window.begun = 0
AudioBufferSourceNode.prototype.start = function (...at) {
  window.begun++
  return start.apply(this, at)
}
window.recorded = () => {
  const x = new Float32Array(32768)
  recorder.getFloatTimeDomainData(x)
  return [packed(x), position()]
}
window.packed = x => {
  let bytes = ""
  for (const byte of new Uint8Array(x.buffer)) bytes += String.fromCharCode(byte)
  return btoa(bytes)
}
"""


@pytest.fixture(scope="module")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def show(chromium, tmp_path_factory):
    """Opens the page of a folder, or at the address where it is served. Of no test may the console complain, nor
    anything be asked of a network. Tests in other processes wait: with two pages on two cores there are gaps in what is
    heard."""
    alone = open(tmp_path_factory.getbasetemp().parent / "pages.lock", "w")
    fcntl.flock(alone, fcntl.LOCK_EX)
    complaints, asked, contexts, expected, served = [], [], [], [], ["file:"]

    def show(folder, width=1280, *, complaint=None, address="", **options):
        context = chromium.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        expected.append(complaint)
        page = context.new_page()
        page.add_init_script(RECORDER)
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address or (folder / "index.html").as_uri())
        served.append(address.removesuffix("index.html") or "file:")
        return page

    show.asked = asked
    yield show
    for context in contexts:
        context.close()
    alone.close()
    assert not [said for said in complaints if not any(known and known in said for known in expected)], complaints
    assert all(url.startswith(tuple(served)) for url in asked)


def make(folder, scores, items=(), sounds=(), rate=RATE, **changed):
    """The page of a report like those of evaluate.py. scores: system -> a row for each file"""
    rows = next(iter(scores.values()))
    items = [
        {"name": f"file_{i}", "kind": "voice", "snr_db": 0.0, "seconds": 1.0, "present": True, **given}
        for i, given in enumerate(items or [{}] * len(rows))
    ]
    for item, signals in zip(items, sounds, strict=False):
        item["sound"] = pages.add_sound(folder, signals, rate)
    report = {
        "name": "alice", "date": "2026-01-02T03:04:05+00:00", "commit": "0123456789abcdef+", "args": {}, "versions": {},
        "sample_rate": rate, "systems": [{"name": name} for name in scores], "items": items, "scores": scores,
        "summary": {name: means(items, rows) for name, rows in scores.items()},
        "against": {name: differences(items, rows, rows) for name, rows in scores.items()}, "failures": [],
    }
    pages.write(folder, report | changed)
    return folder


def read_sound(path) -> tuple[float, dict[str, tuple[np.ndarray, int]]]:
    """Of a file that the page plays: how much it was turned down, and name -> (samples, rate)"""
    _, scale, coded = json.loads(re.fullmatch(r"sound\((.*)\);\n", path.read_text(encoding="utf-8"), re.S)[1])
    return scale, {name: sf.read(io.BytesIO(base64.b64decode(flac))) for name, flac in coded.items()}


def empty(*systems: str, n: int = 1) -> dict:
    """Scores of files of which nothing was measured."""
    return {name: [{} for _ in range(n)] for name in ("mixture", *systems)}


def noise(seed: int, seconds: float) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.2, 0.2, round(seconds * RATE)).astype(np.float32)


def sine(hz: float, seconds: float, rate: int = 44100) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def choose(page, nth: int = 1, *, wait: str = ""):
    """Until it has begun to play, be it over by the time that a busy machine looks."""
    before = page.evaluate("begun")
    page.click(f"#files tbody tr:nth-child({nth}) button")
    page.wait_for_function(wait or f"begun > {before}")


def drawn(page):
    page.wait_for_function("views.size && [...views.values()].every(v => v.canvas.dataset.drawn)")


def unpack(data: str, kind=np.float32) -> np.ndarray:
    return np.frombuffer(base64.b64decode(data), kind)


def pixels(page, name: str) -> np.ndarray:
    """[rows, columns, RGB], of the spectrogram"""
    drawn(page)
    data = page.evaluate("""name => {
        const {canvas} = views.get(name)
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true})
        copy.drawImage(canvas, 0, 0)
        return packed(copy.getImageData(0, 0, canvas.width, canvas.height).data)
    }""", name)
    return unpack(data, np.uint8).reshape(160, 600, 4)[..., :3].astype(int)


def samples(page, name: str) -> np.ndarray:
    return unpack(page.evaluate("name => packed(player.buffers[name].getChannelData(0).slice())", name))


def later(page, seconds: float):
    """As the sound goes."""
    page.evaluate("""async s => {
        const until = player.context.currentTime + s
        while (player.context.currentTime < until) await new Promise(next => setTimeout(next, 5))
    }""", seconds)


def column(page, title: str) -> list[str]:
    """The cells under a heading, from top to bottom."""
    titles = [re.sub(" [▾▴]$", "", text) for text in page.locator("#files th").all_inner_texts()]
    nth = titles.index(title) + 1
    return page.locator(f"#files tbody td:nth-child({nth})").all_inner_texts()


def sort(page, title: str):
    page.locator("#files th button", has_text=re.compile(rf"^{re.escape(title)}( [▾▴])?$")).click()


def heard(page, last: str, signals: dict[str, np.ndarray]) -> tuple[list[tuple[str, float]], float, float]:
    """What was recorded -> (name, seconds) in order, `""` where no signal is heard alone and in its place; the
    position in the file at its end; and what the page said of it.

    Where the last one ends tells the place to the sample; the others must be in the same place. On a busy machine the
    first may begin late, in its place.
    """
    recorded, said = page.evaluate("recorded()")
    recorded = unpack(recorded)
    tail = recorded[-2048:]
    begin = int(np.argmax(correlate(signals[last], tail, "valid"))) + len(tail) - len(recorded)
    recorded, begin = recorded[max(0, -begin):], max(0, begin)
    names = []
    for at in range(0, len(recorded) - 79, 80):  # 5 ms
        alone = [name for name, x in signals.items()
                 if np.abs(recorded[at : at + 80] - x[begin + at : begin + at + 80]).max() < 1e-3]
        names.append(alone[0] if alone else "")
    runs = [(name, 0.005 * len(list(run))) for name, run in groupby(names)]
    return runs if runs[0][0] else runs[1:], (begin + len(recorded)) / RATE, said
