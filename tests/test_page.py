"""The page in Chromium: what it shows, what is heard, and that it needs nothing but its folder.

What is heard is recorded behind the page's own gains, as long as the page plays, and compared with the signals.
"""

import base64
import io
import json
import re
import shutil
import time
from itertools import groupby

import numpy as np
import pytest
import soundfile as sf
from scipy.signal import correlate

from extractor import UserError
from extractor import page as pages
from extractor.scores import differences, means

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here: apt-get install chromium")

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
EVIL = (
    "<img src=x onerror=window.pwned=1>", "\"'</script><script>window.pwned=1</script>", "<!--<script>",
    "{{data}} {{title}} \\1 &lt;", "録音 日本語", "تسجيل عربي", "__proto__",
)


@pytest.fixture(scope="module")
def chromium():
    flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def show(chromium):
    """Opens the page of a folder. Of no test may the console complain, nor anything be asked of a network."""
    complaints, asked, contexts, expected = [], [], [], []

    def show(folder, width=1280, *, complaint=None, **options):
        context = chromium.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        expected.append(complaint)
        page = context.new_page()
        page.add_init_script(RECORDER)
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((folder / "index.html").as_uri())
        return page

    show.asked = asked
    yield show
    for context in contexts:
        context.close()
    assert [said for said in complaints if not any(known and known in said for known in expected)] == []
    assert all(url.startswith("file:") for url in asked)


def make(folder, scores, items=(), sounds=(), rate=RATE, **changed):
    """The page of a report like those of evaluate.py. scores: system -> a row for each file"""
    rows = next(iter(scores.values()))
    items = [
        {"name": f"file_{i}", "kind": "voice", "snr_db": 0.0, "seconds": 1.0, "present": True, **given}
        for i, given in enumerate(items or [{}] * len(rows))
    ]
    for item, signals in zip(items, sounds, strict=False):
        item["sound"] = pages.add_sound(folder, item["name"], signals, rate)
    report = {
        "name": "alice", "date": "2026-01-02T03:04:05+00:00", "commit": "0123456789abcdef+", "args": {}, "versions": {},
        "sample_rate": rate, "systems": [{"name": name} for name in scores], "items": items, "scores": scores,
        "summary": {name: means(items, rows) for name, rows in scores.items()},
        "against": {name: differences(items, rows, rows) for name, rows in scores.items()}, "failures": [],
    }
    pages.write(folder, report | changed)
    return folder


def empty(*systems: str, n: int = 1) -> dict:
    """Scores of files of which nothing was measured."""
    return {name: [{} for _ in range(n)] for name in ("mixture", *systems)}


def noise(seed: int, seconds: float) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.2, 0.2, round(seconds * RATE)).astype(np.float32)


def sine(hz: float, seconds: float, rate: int = 44100) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def choose(page, nth: int = 1, *, wait: str = "player.playing"):
    page.click(f"#files tbody tr:nth-child({nth}) button")
    page.wait_for_function(wait)


def drawn(page):
    page.wait_for_function("views.size && [...views.values()].every(v => v.canvas.dataset.drawn)")


def unpack(data: str, kind=np.float32) -> np.ndarray:
    return np.frombuffer(base64.b64decode(data), kind)


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


# ---------------------------------------------------------------------------------------------------------------------
# sound


def three(folder, seconds: float = 20):
    """A page of one file with two systems. -> all that can be heard, by name"""
    mixture, target, ours, theirs = (noise(seed, seconds) for seed in range(4))
    make(folder, empty("ours", "theirs"), sounds=[
        {"mixture": mixture, "target": target, "ours": ours, "theirs": theirs}
    ])
    return {"mixture": mixture, "target": target, "ours": ours, "theirs": theirs,
            "mixture - ours": mixture - ours, "mixture - theirs": mixture - theirs}


def test_choosing_a_file_plays_its_mixture_from_the_start(show, tmp_path):
    signals = three(tmp_path)
    page = show(tmp_path)
    choose(page)
    later(page, 0.5)
    runs, end, said = heard(page, "mixture", signals)
    assert page.evaluate("player.context.state") == "running"
    assert [name for name, _ in runs] == ["mixture"] and runs[0][1] == pytest.approx(end, abs=0.1)
    assert said == pytest.approx(end, abs=0.05) and 0.3 < end < 5


@pytest.mark.parametrize("key, name", [("2", "ours"), ("3", "theirs"), ("4", "target"), ("5", "mixture - ours")])
def test_a_switch_goes_on_in_the_other_signal_at_the_same_sample(key, name, show, tmp_path):
    signals = three(tmp_path)
    page = show(tmp_path)
    choose(page)
    later(page, 0.4)
    page.keyboard.press(key)
    later(page, 0.4)
    (before, _), (between, fade_s), (after, lasted) = heard(page, name, signals)[0]
    assert (before, between, after) == ("mixture", "", name)
    assert fade_s < 0.06 and lasted > 0.2
    page.keyboard.press("1")
    later(page, 0.3)
    runs, end, said = heard(page, "mixture", signals)
    assert [name for name, _ in runs][-3:] == [name, "", "mixture"]
    assert said == pytest.approx(end, abs=0.05)


def test_the_residual_is_of_the_system_heard_last_and_in_its_place(show, tmp_path):
    signals = three(tmp_path)
    page = show(tmp_path)
    choose(page)
    assert page.inner_text("[data-signal=residual] button") == "5 · residual of ours"
    for key in "535":
        page.keyboard.press(key)
        later(page, 0.4)
    runs, _, _ = heard(page, "mixture - theirs", signals)
    assert [name for name, _ in runs][-5:] == ["mixture - ours", "", "theirs", "", "mixture - theirs"]
    assert all(seconds < 0.06 for name, seconds in runs if not name)
    assert page.inner_text("[data-signal=residual] button") == "5 · residual of theirs"
    for key in "12":
        page.keyboard.press(key)
    residual = samples(page, "residual")
    np.testing.assert_allclose(residual, signals["mixture - ours"], atol=1e-4)


def test_a_switch_does_not_click(show, tmp_path):
    """From a sine to the same one turned over: a cut would jump by up to 0.6."""
    wave = sine(50, 6, RATE)
    make(tmp_path, empty("ours", "theirs"), sounds=[{"mixture": wave, "ours": -wave, "theirs": 0.5 * wave}])
    page = show(tmp_path)
    choose(page)
    later(page, 0.1)
    for key in "4342431":  # from the residual to another system, whose residual takes its place, and back
        page.keyboard.press(key)
        later(page, 0.2)
    recorded = np.trim_zeros(unpack(page.evaluate("recorded()")[0]))  # on a busy machine playing begins inside the wave
    assert len(recorded) > 1.2 * RATE
    assert np.abs(np.diff(recorded)).max() < 0.03  # the sine itself, twice as loud in the residual: 0.012


def test_a_pause_keeps_the_position_and_a_switch_in_it_counts(show, tmp_path):
    signals = three(tmp_path)
    page = show(tmp_path)
    choose(page)
    later(page, 0.5)
    page.click("#play")
    at = page.evaluate("position()")
    page.keyboard.press("2")
    time.sleep(0.2)
    assert page.evaluate("position()") == at > 0.3 and page.inner_text("#play") == "Play"
    page.click("#play")
    later(page, 0.4)
    runs, end, _ = heard(page, "ours", signals)
    assert runs[-1][0] == "ours" and end - runs[-1][1] == pytest.approx(at, abs=0.03)


def test_a_click_in_a_spectrogram_goes_to_that_place_in_that_signal(show, tmp_path):
    signals = three(tmp_path)
    page = show(tmp_path)
    choose(page)
    box = page.locator("[data-signal=ours] .view").bounding_box()
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 5)
    later(page, 0.4)
    runs, end, said = heard(page, "ours", signals)
    assert runs[-1][0] == "ours" and end - runs[-1][1] == pytest.approx(15, abs=0.05)  # of 20 s
    assert said == pytest.approx(end, abs=0.05)
    time.sleep(0.05)
    page.keyboard.press(" ")
    page.wait_for_timeout(50)
    left, at = page.evaluate("[parseFloat(views.get('mixture').cursor.style.left), position()]")
    assert left == pytest.approx(100 * at / 20, abs=0.01)
    assert page.inner_text("#time") == f"0:{int(at * 10) / 10:04.1f} / 0:20.0"


def test_the_cursor_moves_as_the_sound_does(show, tmp_path):
    three(tmp_path, 4)
    page = show(tmp_path)
    choose(page)
    at = []
    for _ in range(2):
        later(page, 0.4)
        at.append(page.evaluate("['mixture', 'residual'].map(s => parseFloat(views.get(s).cursor.style.left))"))
    (a, b), (c, d) = at
    assert a == b and c == d and 9 < c - a < 60  # 0.4 s and a little of 4 s


def test_at_its_end_a_file_stops_and_plays_again_from_its_start(show, tmp_path):
    three(tmp_path, 0.6)
    page = show(tmp_path)
    choose(page)
    page.wait_for_function("!player.playing")
    assert page.evaluate("position()") == 0 and page.inner_text("#play") == "Play"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("position()") == pytest.approx(0.6)
    page.keyboard.press(" ")
    assert page.evaluate("[player.playing, player.offset]") == [True, 0]
    page.wait_for_function("!player.playing")


def test_arrows_go_a_second_on_and_back_but_not_beyond_the_ends(show, tmp_path):
    three(tmp_path, 3.5)
    page = show(tmp_path)
    choose(page)
    page.keyboard.press(" ")
    page.evaluate("seek(0.25)")
    found = []
    for key in ("Right", "Right", "Right", "Right", "Left", "Left", "Left", "Left"):
        page.keyboard.press(f"Arrow{key}")
        found.append(page.evaluate("position()"))
    assert found == pytest.approx([1.25, 2.25, 3.25, 3.5, 2.5, 1.5, 0.5, 0])


def test_a_signal_that_ends_early_is_silent_from_there_in_sound_residual_and_picture(show, tmp_path):
    mixture, ours = noise(0, 2), noise(1, 1)
    make(tmp_path, empty("ours"), sounds=[{"mixture": mixture, "ours": ours}])
    page = show(tmp_path)
    choose(page)
    drawn(page)
    residual = samples(page, "residual")
    np.testing.assert_allclose(residual, mixture - np.pad(ours, (0, RATE)), atol=1e-4)
    bright = pixels(page, "ours").sum(axis=(0, 2))
    assert bright[:280].min() > 10_000 and bright[325:].max() < 1000  # of 600 columns


@pytest.mark.parametrize("short", ["mixture", "ours"])
def test_a_file_ends_with_its_longest_signal(short, show, tmp_path):
    lengths = {"mixture": 1.2, "ours": 1.2} | {short: 0.2}
    make(tmp_path, empty("ours"), sounds=[{name: noise(0, s) for name, s in lengths.items()}])
    page = show(tmp_path)
    choose(page)
    later(page, 0.6)
    assert page.evaluate("player.playing")
    page.wait_for_function("!player.playing")


def test_one_sample_is_a_file_like_any_other(show, tmp_path):
    make(tmp_path, empty("ours"), sounds=[{"mixture": np.array([0.5]), "ours": np.array([0.25])}])
    page = show(tmp_path)
    choose(page, wait="player.duration")
    page.wait_for_function("!player.playing")
    assert samples(page, "residual").tolist() == pytest.approx([0.25], abs=1e-4)
    drawn(page)


def test_signals_over_full_scale_are_turned_down_together_and_the_page_says_so(show, tmp_path):
    mixture, ours = noise(0, 1) * 10, noise(1, 1)  # up to 2, and to 0.2
    mixture[7] = 2
    make(tmp_path, empty("ours"), sounds=[{"mixture": mixture, "ours": ours}])
    page = show(tmp_path)
    choose(page)
    assert page.inner_text("#message") == "turned down by 6.0 dB to fit full scale"
    for name, x in ("mixture", mixture), ("ours", ours), ("residual", mixture - ours):
        np.testing.assert_allclose(samples(page, name), x / 2, atol=1e-4)


def test_of_two_files_chosen_at_once_the_second_is_heard(show, tmp_path):
    first, second = noise(0, 8), noise(1, 8)
    make(tmp_path, empty(n=2), sounds=[{"mixture": first}, {"mixture": second}])
    page = show(tmp_path)
    page.evaluate("load(0), load(1)")
    page.wait_for_function("player.playing")
    later(page, 0.4)
    runs, _, _ = heard(page, "second", {"first": first, "second": second})
    assert [name for name, _ in runs] == ["second"]
    assert page.inner_text("#file") == "file_1"
    assert page.locator("tr.open").all_inner_texts() == page.locator("#files tbody tr").all_inner_texts()[1:]


def test_the_system_that_is_heard_stays_so_from_file_to_file(show, tmp_path):
    sounds = [{"mixture": noise(i, 1), "ours": noise(i, 1) / 2, "theirs": noise(i, 1) / 3} for i in range(2)]
    make(tmp_path, empty("ours", "theirs", n=2), sounds=sounds)
    page = show(tmp_path)
    choose(page)
    page.keyboard.press("3")
    choose(page, 2, wait="player.index === 1 && player.playing")
    assert page.evaluate("[player.heard, player.residualOf]") == ["theirs", "theirs"]
    pressed = page.locator("#player [aria-pressed=true]").all_inner_texts()
    assert pressed == ["3 · theirs"]


def test_an_estimate_that_is_missing_leaves_the_rest_to_play(show, tmp_path):
    make(tmp_path, empty("ours", n=2), sounds=[
        {"mixture": noise(0, 1), "ours": noise(1, 1)}, {"mixture": noise(0, 1), "target": noise(1, 1)},
    ])
    page = show(tmp_path)
    choose(page)
    page.keyboard.press("2")
    choose(page, 2, wait="player.index === 1 && player.playing")
    assert page.evaluate("player.heard") == "mixture"
    assert page.locator(".signal button").all_inner_texts() == ["1 · mixture", "2 · target"]


@pytest.mark.parametrize("damage, complaint, says", [
    (lambda path: path.unlink(), "ERR_FILE_NOT_FOUND", "{} is missing; keep it beside index.html"),
    (lambda path: path.write_text(path.read_text()[:900]), "Invalid or unexpected", "{} is damaged; make the page"),
    (lambda path: path.write_text(path.read_text().replace("ZkxhQw", "AAAAAA")), None, "Unable to decode audio data"),
])
def test_a_sound_that_is_missing_or_damaged_is_named_and_the_others_play(damage, complaint, says, show, tmp_path):
    make(tmp_path, empty(n=2), sounds=[{"mixture": noise(0, 1)}, {"mixture": noise(1, 1)}])
    place = re.search(r"index_files/\w+\.js", (tmp_path / "index.html").read_text())[0]
    damage(tmp_path / place)
    page = show(tmp_path, complaint=complaint)
    page.click("#files tbody tr:nth-child(1) button")
    page.wait_for_function("document.getElementById('message').textContent.startsWith('This file cannot be played: ')")
    assert says.format(place) in page.inner_text("#message")
    choose(page, 2)
    assert page.inner_text("#message") == ""


# ---------------------------------------------------------------------------------------------------------------------
# spectrograms


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


def mel(hz):
    return 2595 * np.log10(1 + np.asarray(hz) / 700)


def test_a_sine_is_a_line_at_its_frequency_and_the_top_is_half_the_rate(show, tmp_path):
    hz = {"mixture": 10_000, "ours": 16_000, "target": 21_950}
    make(tmp_path, empty("ours"), rate=44100, sounds=[{name: sine(f, 1) for name, f in hz.items()}])
    page = show(tmp_path)
    choose(page)
    page.keyboard.press(" ")
    for name, f in hz.items():
        bright = pixels(page, name).sum(2)[:, 300]
        expected = 160 * (1 - mel(f) / mel(22050)) - 0.5  # rows are 160 equal steps of mel
        assert np.argmax(bright) == pytest.approx(expected, abs=0.51), name
        away = np.abs(np.arange(160) - expected) > 6
        assert bright.max() > 600 and bright[away].max() < 60
    view = page.locator("[data-signal=ours] .view").bounding_box()
    label = page.locator("[data-signal=ours] span", has_text="16 kHz").bounding_box()
    middle = (label["y"] + label["height"] / 2 - view["y"]) / view["height"]
    assert middle == pytest.approx(1 - mel(16_000) / mel(22050), abs=0.01)


def test_time_goes_from_the_left_edge_to_the_right(show, tmp_path):
    burst = np.zeros(88200)
    burst[44100 * 3 // 2 : 44100 * 3 // 2 + 200] = noise(0, 1)[:200]  # at 1.5 s of 2
    make(tmp_path, empty(), rate=44100, sounds=[{"mixture": burst}])
    page = show(tmp_path)
    choose(page)
    assert np.argmax(pixels(page, "mixture").sum(axis=(0, 2))) == pytest.approx(450, abs=4)


def test_the_spectrogram_of_the_residual_follows_the_system(show, tmp_path):
    low, high = sine(1000, 1), sine(5000, 1)
    make(tmp_path, empty("ours", "theirs"), rate=44100, sounds=[{"mixture": low + high, "ours": low, "theirs": high}])
    page = show(tmp_path)
    choose(page)
    for key, hz in ("3", 1000), ("2", 5000):
        page.keyboard.press(key)
        bright = pixels(page, "residual").sum(2)[:, 300]
        assert np.argmax(bright) == pytest.approx(160 * (1 - mel(hz) / mel(22050)) - 0.5, abs=1.01)


# ---------------------------------------------------------------------------------------------------------------------
# the table


def table_of_five(folder):
    gains, snrs = [2.0, None, -10.0, 2.0, 10.0], [5.0, None, -5.0, 0.0, 10.0]
    scores = {"mixture": [{"si_sdr": -1.0, "si_sdri": 0.0}] * 5,
              "ours": [{} if gain is None else {"si_sdr": gain - 1, "si_sdri": gain, "pesq": 1.5} for gain in gains]}
    items = [{"name": f"file {10 - i}", "kind": ["voice", "non-speech"][i % 2], "snr_db": snr_db, "seconds": 2.0 + i}
             for i, snr_db in enumerate(snrs)]
    return make(folder, scores, items)


def test_numbers_sort_up_and_down_with_what_is_unknown_last_and_equals_in_order(show, tmp_path):
    page = show(table_of_five(tmp_path))
    assert column(page, "ours") == ["+2.0", "–", "−10.0", "+2.0", "+10.0"]
    sort(page, "ours")
    assert column(page, "ours") == ["−10.0", "+2.0", "+2.0", "+10.0", "–"]
    assert column(page, "file") == ["file 8", "file 10", "file 7", "file 6", "file 9"]
    heading = page.locator("#files th", has_text="ours")
    assert heading.get_attribute("aria-sort") == "ascending"
    sort(page, "ours")
    assert column(page, "ours") == ["+10.0", "+2.0", "+2.0", "−10.0", "–"]
    assert column(page, "file") == ["file 6", "file 10", "file 7", "file 8", "file 9"]
    assert heading.get_attribute("aria-sort") == "descending"
    sort(page, "SNR, dB")
    assert column(page, "SNR, dB") == ["−5", "0", "5", "10", "–"]


def test_text_sorts_as_people_count_and_is_shown_as_it_is(show, tmp_path):
    page = show(table_of_five(tmp_path))
    sort(page, "file")
    assert column(page, "file") == [f"file {n}" for n in (6, 7, 8, 9, 10)]
    sort(page, "kind")
    assert column(page, "kind") == ["non-speech"] * 2 + ["voice"] * 3
    assert column(page, "file") == [f"file {n}" for n in (9, 7, 10, 8, 6)]
    assert column(page, "length, s") == ["3.0", "5.0", "2.0", "4.0", "6.0"]


def test_other_measures_and_systems_can_be_picked_and_the_order_stays(show, tmp_path):
    page = show(table_of_five(tmp_path))
    head = ["file", "kind", "SNR, dB", "length, s"]
    sort(page, "ours")
    page.get_by_role("combobox", name="Measure", exact=True).select_option("SI-SDR, dB")
    assert page.locator("#files th").all_inner_texts() == [*head, "mixture", "ours ▴"]
    assert column(page, "ours") == ["−11.0", "+1.0", "+1.0", "+9.0", "–"]
    assert column(page, "mixture") == ["−1.0"] * 5
    assert "SI-SDR, dB by kind" in page.inner_text("#summary figcaption >> nth=0")
    page.get_by_role("combobox", name="Show", exact=True).select_option("all measures of ours")
    assert page.locator("#files th").all_inner_texts() == [*head, "SI-SDR, dB", "SI-SDRi, dB", "PESQ, MOS"]
    assert column(page, "PESQ, MOS") == ["1.50", "–", "1.50", "1.50", "1.50"]


def test_the_filter_finds_names_and_kinds_and_the_next_file_is_the_next_shown(show, tmp_path):
    page = show(table_of_five(tmp_path))
    page.get_by_label("filter files").fill("NON")
    assert column(page, "file") == ["file 9", "file 7"] and "2 of 5" in page.inner_text("main")
    page.get_by_label("next file").or_(page.locator("#files tbody button").first).last.click()
    page.get_by_label("next file").click()
    assert page.inner_text("#file") == "file 7"
    page.get_by_label("previous file").click()
    assert page.inner_text("#file") == "file 9"
    assert page.inner_text("#message") == "There is no sound of this file."
    page.get_by_label("filter files").fill("file 10")
    assert column(page, "kind") == ["voice"]


def test_numbers_that_round_to_zero_have_no_sign_of_less(show, tmp_path):
    page = show(make(tmp_path, {"mixture": [{"si_sdri": -0.01}, {"si_sdri": float("nan")}]}))
    assert column(page, "mixture") == ["0.0", "–"]


def test_the_heading_stays_in_sight_in_a_long_table_and_the_file_that_plays_too(show, tmp_path):
    page = show(make(tmp_path, empty(n=100)))
    page.evaluate("document.querySelector('.scroll').scrollIntoView()")
    page.evaluate("document.querySelector('.scroll').scrollTop = 1000")
    box, head = (page.locator(at).bounding_box() for at in (".scroll", "th >> nth=0"))
    assert head["y"] == pytest.approx(box["y"], abs=2)
    page.evaluate("load(90)")
    box, row, title = (page.locator(at).bounding_box() for at in (".scroll", "tr.open", "#file"))
    assert box["y"] + 20 < row["y"] and row["y"] + row["height"] <= box["y"] + box["height"]
    assert 0 <= title["y"] < 400  # of 800: what is played is in sight as well


# ---------------------------------------------------------------------------------------------------------------------
# plots


def plotted(page, caption: str):
    return page.locator("figure", has=page.locator("figcaption", has_text=caption))


def axis(figure, at: int = 0) -> tuple[float, float]:
    """Of the vertical axis: the height of zero, and how much a unit is, from its labels."""
    ticks = figure.evaluate("""f => [...f.querySelectorAll('svg text[text-anchor=end]')].map(
        t => [+t.textContent.replace('−', '-'), +t.getAttribute('y') - 4])""")
    (a, ya), (b, yb) = ticks[0], ticks[-1]
    unit = (ya - yb) / (b - a)
    return ya + a * unit, unit


def lines(figure) -> dict[str, list[tuple[float, float]]]:
    """Colour -> points"""
    found = figure.evaluate("""f => [...f.querySelectorAll('path')].map(
        p => [p.parentNode.getAttribute('stroke'), p.getAttribute('d')])""")
    return {color: [tuple(map(float, point.split())) for point in d[1:].split("L")] for color, d in found}


def four_files(folder):
    """By hand. ours: 2 and 4 of voice: 3 [2, 4]; -6 and -2 of game: -4 [-6, -2]; theirs: one file of each."""
    items = [{"kind": kind, "snr_db": snr_db} for kind in ("voice", "game") for snr_db in (0.0, 5.0)]
    return make(folder, {
        "mixture": [{"si_sdri": 0.0}] * 4,
        "ours": [{"si_sdri": x} for x in (2.0, 4.0, -6.0, -2.0)],
        "theirs": [{"si_sdri": 1.0}, {}, {}, {"si_sdri": 5.0}],
    }, items)


def test_bars_are_as_high_as_the_means_and_whiskers_reach_from_end_to_end_of_the_interval(show, tmp_path):
    figure = plotted(show(four_files(tmp_path)), "by kind")
    zero, unit = axis(figure)
    bars = figure.evaluate("""f => [...f.querySelectorAll('rect')].map(
        r => [r.textContent, ...['x', 'y', 'height'].map(k => +r.getAttribute(k))])""")
    texts, lefts, tops, heights = zip(*bars, strict=True)
    assert texts[:6] == (
        "mixture, voice: 0.0 [0.0, 0.0], 2 files", "ours, voice: +3.0 [+2.0, +4.0], 2 files",
        "theirs, voice: +1.0 [–, –], 1 file",
        "mixture, game: 0.0 [0.0, 0.0], 2 files", "ours, game: −4.0 [−6.0, −2.0], 2 files",
        "theirs, game: +5.0 [–, –], 1 file",
    )
    assert texts[7].startswith("ours, all with the target: −0.5 [")
    assert list(lefts) == sorted(lefts)
    np.testing.assert_allclose(np.array(heights) / unit, [0, 3, 1, 0, 4, 5, 0, 0.5, 3], atol=0.03)
    np.testing.assert_allclose((zero - np.array(tops)) / unit, [0, 3, 1, 0, 0, 5, 0, 0, 3], atol=0.03)
    whiskers = figure.evaluate("f => [...f.querySelectorAll('path')].map(p => p.getAttribute('d'))")
    ends = [[(zero - float(y)) / unit for y in re.match(r"M[\d.]+ ([\d.]+)V([\d.]+)$", d).groups()] for d in whiskers]
    np.testing.assert_allclose(ends[:4] + ends[6:], [[0, 0], [2, 4], [0, 0], [-6, -2], [1, 5]], atol=0.03)
    assert figure.locator(".kinds span").all_inner_texts() == ["voice", "game", "all with the target"]


def test_lines_show_the_means_over_the_snr(show, tmp_path):
    figure = plotted(show(four_files(tmp_path)), "by SNR")
    zero, unit = axis(figure)
    shown = lines(figure)
    assert len(shown) == 3
    heights = [[(zero - y) / unit for _, y in line] for line in shown.values()]
    np.testing.assert_allclose(heights, [[0, 0], [-2, 1], [1, 5]], atol=0.03)  # (2 - 6) / 2, (4 - 2) / 2
    labels = figure.locator("text[text-anchor=middle]")
    assert labels.all_text_contents() == ["0", "5"]
    at = [float(label.get_attribute("x")) for label in labels.all()]
    assert [[x for x, _ in line] for line in shown.values()] == [pytest.approx(at, abs=0.1)] * 3


def test_training_curves_are_drawn_in_the_colour_of_their_system_and_pass_over_what_is_no_number(show, tmp_path):
    curves = {"ours": {"valid/si_sdri": [(0, 1.0), (10, float("nan")), (20, 3.0)], "train/lr": [(0, 1.0)],
                       "train/loss": [(0, float("nan"))]},
              "theirs": {"valid/si_sdri": [(0, 2.0), (40, 5.0)]}}
    page = show(make(tmp_path, empty("ours", "theirs"), curves=curves))
    page.click("#curves summary")
    assert page.locator("#curves figcaption").all_inner_texts() == ["valid/si_sdri over steps"]
    figure = plotted(page, "valid/si_sdri")
    zero, unit = axis(figure)
    heights = {color: [(zero - y) / unit for _, y in line] for color, line in lines(figure).items()}
    ours, theirs = page.evaluate("['ours', 'theirs'].map(colorOf)")
    assert heights == {ours: pytest.approx([1, 3], abs=0.03), theirs: pytest.approx([2, 5], abs=0.03)}
    assert page.locator("#curves .legend span").all_inner_texts() == ["ours", "theirs"]


def test_where_all_runs_were_timed_the_curves_are_drawn_over_minutes(show, tmp_path):
    curves = {"ours": {"valid/x": [(100, 1.0), (200, 2.0)], "valid/minutes": [(100, 3.0), (200, 6.0)]},
              "theirs": {"valid/x": [(5, 1.0), (10, 2.0)], "valid/minutes": [(5, 6.0), (10, 12.0)]}, "rival": {}}
    page = show(make(tmp_path, empty("ours", "theirs", "rival"), curves=curves))
    page.click("#curves summary")
    assert page.locator("#curves figcaption").all_inner_texts() == ["valid/x over minutes"]
    found = lines(plotted(page, "valid/x"))
    ours, theirs = ([x for x, _ in found[color]] for color in page.evaluate("['ours', 'theirs'].map(colorOf)"))
    assert theirs[0] == pytest.approx(ours[1], abs=0.1)  # both at the sixth minute
    assert theirs[1] - theirs[0] == pytest.approx(2 * (ours[1] - ours[0]), rel=0.02)


def test_the_measure_of_an_absent_speaker_has_its_own_bars(show, tmp_path):
    scores = {"mixture": [{"attenuation": 0.0}] * 2, "ours": [{"attenuation": -30.0}, {"attenuation": -50.0}]}
    page = show(make(tmp_path, scores, [{"kind": "absent", "snr_db": None, "present": False}] * 2))
    figure = plotted(page, "left of absent, dB by kind")
    assert figure.locator("rect title").all_text_contents()[1] == "ours, absent: −40.0 [−50.0, −30.0], 2 files"
    assert page.locator("#summary figure").count() == 1


# ---------------------------------------------------------------------------------------------------------------------
# by keyboard, by phone, by night


def test_keys_play_pause_switch_and_go_to_other_files(show, tmp_path):
    make(tmp_path, empty("ours", n=3), sounds=[{"mixture": noise(i, 9), "ours": noise(i + 3, 9)} for i in range(3)])
    page = show(tmp_path)
    steps = [
        ("n", [0, True, "mixture"]), ("2", [0, True, "ours"]), (" ", [0, False, "ours"]), (" ", [0, True, "ours"]),
        ("3", [0, True, "residual"]), ("4", [0, True, "residual"]), ("n", [1, True, "residual"]),
        ("n", [2, True, "residual"]), ("n", [2, True, "residual"]), ("p", [1, True, "residual"]),
        ("1", [1, True, "mixture"]),
    ]
    for key, state in steps:
        page.keyboard.press(key)
        page.wait_for_function("player.duration > 0")
        assert page.evaluate("[player.index, player.playing, player.heard]") == state, key


def test_the_tenth_signal_has_the_key_0(show, tmp_path):
    systems = [f"system {i}" for i in range(8)]
    make(tmp_path, empty(*systems), sounds=[{name: noise(0, 5) for name in ("mixture", *systems, "target")}])
    page = show(tmp_path)
    choose(page)
    page.keyboard.press("0")
    assert page.evaluate("player.heard") == "target"
    assert page.locator("#player [aria-pressed=true]").all_inner_texts() == ["10 · target"]


def test_keys_belong_to_the_field_that_is_typed_in(show, tmp_path):
    make(tmp_path, empty("ours", n=3) | {"ours": [{"si_sdri": 1.0}] * 3}, [{"name": f"n2 p{i}"} for i in range(3)],
         [{"mixture": noise(i, 9), "ours": noise(i, 9)} for i in range(3)])
    page = show(tmp_path)
    choose(page)
    page.get_by_label("filter files").press_sequentially("n2 p")
    page.keyboard.press("ArrowLeft")
    for label in ("Measure", "Show"):
        page.get_by_role("combobox", name=label, exact=True).focus()
        page.keyboard.press("n")
        page.keyboard.press("2")
    assert page.evaluate("[player.index, player.playing, player.heard]") == [0, True, "mixture"]
    assert page.get_by_label("filter files").input_value() == "n2 p" and len(column(page, "file")) == 3


def test_tab_goes_through_everything_in_order_and_shows_where_it_is(show, tmp_path):
    scores = {"mixture": [{"si_sdri": 0.0}] * 2, "ours": [{"si_sdri": 1.0}] * 2}
    make(tmp_path, scores, sounds=[{"mixture": noise(0, 9)}] * 2)
    page = show(tmp_path)
    page.keyboard.press("n")
    page.wait_for_function("player.playing")
    found = []
    for _ in range(16):
        page.keyboard.press("Tab")
        found.append(page.evaluate("""(e => {
            const {outlineStyle, outlineWidth} = getComputedStyle(e)
            return [e.ariaLabel ?? e.textContent, outlineStyle, parseFloat(outlineWidth) > 1]
        })(document.activeElement)"""))
    names = [name for name, *_ in found]
    assert names == [
        "Arguments, versions, what the numbers mean", "Measure", "previous file", "Pause", "next file", "1 · mixture",
        "Show", "filter files", "file", "kind", "SNR, dB", "length, s", "mixture", "ours", "file_0", "file_1",
    ]
    assert all(outline == ["solid", True] for _, *outline in found)


def test_enter_sorts_and_stays_on_the_heading_and_the_focus_goes_with_the_file(show, tmp_path):
    make(tmp_path, empty(n=3), sounds=[{"mixture": noise(i, 9)} for i in range(3)])
    page = show(tmp_path)
    page.locator("#files th button").first.focus()
    for order in ([0, 1, 2], [2, 1, 0]):
        page.keyboard.press("Enter")
        assert column(page, "file") == [f"file_{i}" for i in order]
        assert page.evaluate("document.activeElement.textContent.slice(0, 4)") == "file"
    page.locator("#files tbody button").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("player.playing")
    page.keyboard.press("n")
    page.wait_for_function("player.index === 1 && player.playing")
    assert page.evaluate("document.activeElement.textContent") == "file_1"
    page.keyboard.press(" ")  # pauses what plays, and does not go back to where the focus was
    assert page.evaluate("[player.index, player.playing]") == [1, False]


@pytest.mark.parametrize("width", [320, 1280])
def test_nothing_is_wider_than_the_window_whatever_the_names(width, show, tmp_path):
    long = "a_name_that_goes_on_" * 8
    systems = ("mixture", long, *(f"system {i}" for i in range(6)))
    scores = {name: [{"si_sdri": 1.0, "attenuation": 1.0}] * 2 for name in systems}
    make(tmp_path, scores, [{"name": long, "kind": long, "text": long}, {"name": "b", "kind": "b", "snr_db": 5.0}],
         [{name: noise(0, 0.3) for name in (*scores, "target")}], name=long, failures=[long], args={long: long},
         curves={long: {f"valid/{long}": [(0, 1.0), (1, 2.0)]}})
    page = show(tmp_path, width)
    choose(page, wait="views.size")
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate("""w => [...document.querySelectorAll('body *:not(.scroll *)')].filter(
        e => e.getBoundingClientRect().right > w + 1).map(e => e.outerHTML.slice(0, 80))""", width)
    assert wide == []
    page.evaluate("document.querySelector('.scroll').scrollLeft = 1e6")
    assert page.locator("#files tbody td:first-child").first.bounding_box()["x"] < 20  # the name stays


def test_the_page_is_light_by_day_and_dark_by_night_and_can_be_read(show, tmp_path):
    make(tmp_path, empty("ours"), sounds=[{"mixture": noise(0, 3), "ours": noise(1, 3)}])
    papers = []
    for scheme in ("light", "dark"):
        page = show(tmp_path, color_scheme=scheme)
        choose(page)
        page.keyboard.press("2")
        found = page.evaluate("""[...document.querySelectorAll('h1, p, summary, .kinds, button')].map(e => {
            let under = e
            while (getComputedStyle(under).backgroundColor === "rgba(0, 0, 0, 0)") under = under.parentElement
            return [e.textContent, getComputedStyle(e).color, getComputedStyle(under).backgroundColor]
        })""")
        for text, *pair in found:
            ink, paper = (luminance(*map(int, re.findall(r"\d+", color)[:3])) for color in pair)
            contrast = (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05)
            assert contrast >= 4.5, (scheme, text, pair)  # WCAG 2.2, 1.4.3
        papers.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    light, dark = (luminance(*map(int, re.findall(r"\d+", paper))) for paper in papers)
    assert light > 0.9 and dark < 0.02


def luminance(*rgb: int) -> float:
    """As WCAG 2.2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in rgb)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


# ---------------------------------------------------------------------------------------------------------------------
# few, many, and odd names


def test_a_page_without_files_says_so_and_offers_nothing_to_play(show, tmp_path):
    page = show(make(tmp_path, empty("ours", n=0), summary={"mixture": {}, "ours": {}}))
    assert "0 files" in page.inner_text("header") and "There are no files here yet." in page.inner_text("main")
    assert page.locator("button:visible, input:visible, select:visible, kbd:visible").count() == 0
    page.keyboard.press("n")
    page.keyboard.press(" ")


def test_500_files_open_and_sort_at_once_and_no_sound_is_asked_for_before_it_is_wanted(show, tmp_path):
    n, rng = 500, np.random.default_rng(0)
    systems = ("mixture", "a", "b", "c")
    scores = {name: [{"si_sdri": float(x), "sdr": 1.0} for x in rng.normal(size=n)] for name in systems}
    tone = {"mixture": noise(0, 1)}
    make(tmp_path, scores, [{"sound": pages.add_sound(tmp_path, f"file_{i}", tone, RATE)} for i in range(n)])
    began = time.perf_counter()
    page = show(tmp_path)
    page.wait_for_selector("#files tbody tr:nth-child(500)")
    opened = time.perf_counter() - began
    assert show.asked == [(tmp_path / "index.html").as_uri()]
    took = page.evaluate("""() => {
        const began = performance.now()
        document.querySelector("#files th:last-child button").click()
        document.body.getBoundingClientRect()
        return performance.now() - began
    }""")
    values = [float(text.replace("−", "-").replace("–", "nan")) for text in column(page, "c")]
    assert values == sorted(values) and len(values) == n
    print(f"500 files: opened in {opened:.2f} s, sorted in {took:.0f} ms")
    assert opened < 10 and took < 1500
    choose(page, 250)
    assert len(show.asked) == 2 and show.asked[1].endswith(".js")


def test_names_are_shown_as_they_are_and_nothing_in_them_runs(show, tmp_path):
    folder, name = tmp_path / "<b>'\" & 音声 #1 100%? ;", "</title><script>window.pwned=1</script> {{data}}"
    items = [{"name": text, "kind": text, "text": text, "snr_db": 5.0 * i} for i, text in enumerate(EVIL)]
    scores = {name: [{"si_sdri": 1.0}] * len(EVIL) for name in ("mixture", *EVIL[:-1])}
    sounds = [{name: noise(0, 0.5) for name in scores} for _ in range(2)]
    make(folder, scores, items, sounds, name=name, failures=list(EVIL), args={text: text for text in EVIL},
         versions=dict.fromkeys(EVIL[:-1], EVIL[0]), commit=EVIL[0], date=EVIL[0],
         curves={text: {f"valid/{text}": [(0, 1.0), (1, 2.0)]} for text in EVIL[:-1]})
    page = show(folder)
    assert page.inner_text("h1") == page.title() == name
    assert column(page, "file") == column(page, "kind") == list(EVIL)
    assert page.locator("#files th").all_inner_texts()[4:] == list(scores)
    assert page.locator("details[open] pre").text_content() == "\n".join(EVIL)
    assert page.locator(".kinds span").all_inner_texts()[:-1] == list(EVIL)
    assert json.loads(page.locator("details pre").first.text_content())["args"] == {text: text for text in EVIL}
    assert page.locator("#curves figcaption").all_text_contents() == [f"valid/{text} over steps" for text in EVIL[:-1]]
    for nth, text in enumerate(EVIL, 1):
        choose(page, nth, wait=f"player.index === {nth - 1}")
        assert page.inner_text("#file") == page.inner_text("#words") == text
    choose(page, 2, wait="views.size")
    buttons = [f"{i} · {name}" for i, name in enumerate((*scores, f"residual of {EVIL[0]}"), 1)]
    assert page.locator(".signal button").all_text_contents() == buttons
    assert page.evaluate("window.pwned") is None
    assert page.locator("img").count() == 0 and page.locator("script").count() == 2


def test_names_of_files_that_are_no_unicode_are_shown_with_question_marks(show, tmp_path):
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    page = show(make(tmp_path, empty(), [{"name": name}], [{"mixture": noise(0, 1)}], name=name))
    assert page.title() == "caf?" and column(page, "file") == ["caf?"]
    choose(page)


def test_the_head_says_what_was_run(show, tmp_path):
    scores = {"mixture": [{}], "ours": [{"si_sdri": 1.0}]}
    page = show(make(tmp_path, scores, args={"pairs": "evaluation"}, failures=["a: b"]))
    assert page.inner_text("header p") == "1 file · mixture, ours · 2026-01-02 · commit 01234567+"
    assert page.locator("header summary").all_inner_texts()[1] == "1 failure"
    page.click("summary")
    assert '"pairs": "evaluation"' in page.inner_text("header pre >> nth=0")
    assert "SI-SDRi, dB: SI-SDR gained over the mixture" in page.inner_text("header details >> nth=0")


def test_what_infer_writes_has_no_targets_and_says_which_part_it_is(show, tmp_path):
    signals = {"mixture": noise(0, 2), "alice": noise(1, 2)}
    item = {"name": "a/b.wav", "seconds": 4000.0, "start_s": 61.0, "end_s": 121.5,
            "sound": pages.add_sound(tmp_path, "a/b.wav", signals, RATE)}
    pages.write(tmp_path, {
        "name": "extracted", "sample_rate": RATE, "items": [item], "systems": [{"name": "mixture"}, {"name": "alice"}],
        "scores": {"mixture": [{"level_in": -30.0}], "alice": [{"level_change": -4.0, "speech_s": 12.5}]},
    })
    page = show(tmp_path)
    assert page.locator("#files th").all_inner_texts() == [
        "file", "length, s", "level before, dBFS", "level change, dB", "speech, s"
    ]
    assert page.locator("#files td").all_inner_texts() == ["a/b.wav", "4000.0", "−30.0", "−4.0", "12.5"]
    choose(page)
    assert page.inner_text("#words") == "The loudest part of what was extracted, 1:01 to 2:01 of 1:06:40."
    assert page.locator(".signal button").all_inner_texts() == ["1 · mixture", "2 · alice", "3 · residual of alice"]


# ---------------------------------------------------------------------------------------------------------------------
# the folder


def read_sound(path) -> tuple[float, dict[str, np.ndarray]]:
    _, scale, coded = json.loads(re.fullmatch(r"sound\((.*)\);\n", path.read_text(encoding="utf-8"), re.S)[1])
    return scale, {name: sf.read(io.BytesIO(base64.b64decode(flac))) for name, flac in coded.items()}


def test_sounds_are_kept_to_half_a_step_of_16_bits(tmp_path):
    x = noise(0, 0.1)
    place = pages.add_sound(tmp_path, "a", {"mixture": x, "ours": -x}, RATE)
    scale, signals = read_sound(tmp_path / place)
    assert scale == 1 and signals["ours"][1] == RATE
    np.testing.assert_allclose(signals["mixture"][0] * 32768, x * 32767, atol=0.5 + 1e-3)
    np.testing.assert_array_equal(signals["ours"][0], -signals["mixture"][0])


def test_only_what_is_over_full_scale_is_turned_down(tmp_path):
    loud, place = np.array([0.5, -4.0]), pages.add_sound(tmp_path, "a", {"mixture": np.array([1.0, -1.0])}, RATE)
    assert read_sound(tmp_path / place)[0] == 1
    scale, signals = read_sound(tmp_path / pages.add_sound(tmp_path, "a", {"mixture": loud, "ours": loud / 8}, RATE))
    assert scale == 0.25
    assert [x[0].tolist() for x in signals.values()] == [
        pytest.approx([0.125, -1], abs=1e-4), pytest.approx([0.125 / 8, -0.125], abs=1e-4)
    ]


def test_sounds_that_the_report_no_longer_names_are_removed(tmp_path):
    make(tmp_path, empty(n=3), sounds=[{"mixture": noise(0, 0.1)}] * 3)
    kept = pages.add_sound(tmp_path, "file_1", {"mixture": noise(0, 0.1)}, RATE)
    assert len(list((tmp_path / "index_files").iterdir())) == 3
    make(tmp_path, empty(), [{"name": "file_1", "sound": kept}])
    assert [f"index_files/{p.name}" for p in (tmp_path / "index_files").iterdir()] == [kept]


def test_a_page_that_cannot_be_written_leaves_the_old_one_with_its_sounds(tmp_path, monkeypatch):
    make(tmp_path, empty(), sounds=[{"mixture": noise(0, 0.1)}])
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.*")}

    def full(self, text, **kwargs):
        self.write_bytes(text.encode()[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(UserError, match=r"index\.html: cannot be written \(No space left on device\)"):
        make(tmp_path, empty(n=2))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.*")} == before
