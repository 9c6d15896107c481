"""What is heard of the page: which signal, where, and that it plays on."""

import re
import time

import numpy as np
import pytest
from browser import RATE, choose, drawn, empty, heard, later, make, noise, pixels, samples, sine, unpack


@pytest.fixture
def three(show, tmp_path):
    """Plays the page of one file with two systems. -> the page, and all that can be heard, by name"""
    def play(seconds: float = 20):
        mixture, target, ours, theirs = (noise(seed, seconds) for seed in range(4))
        signals = {"mixture": mixture, "target": target, "ours": ours, "theirs": theirs}
        page = show(make(tmp_path, empty("ours", "theirs"), sounds=[signals]))
        choose(page)
        return page, signals | {"mixture - ours": mixture - ours, "mixture - theirs": mixture - theirs}

    return play


@pytest.mark.parametrize("key, name", [("2", "ours"), ("4", "target"), ("5", "mixture - ours")])
def test_a_switch_goes_on_in_the_other_signal_at_the_same_sample(key, name, three):
    page, signals = three()
    later(page, 0.4)
    page.keyboard.press(key)
    later(page, 0.4)
    ((before, _), (between, fade_s), (after, lasted)), end, said = heard(page, name, signals)
    assert said == pytest.approx(end, abs=0.05) and 0.5 < end < 5  # from the start of the file
    assert (before, between, after) == ("mixture", "", name)
    assert fade_s < 0.06 and lasted > 0.2
    page.keyboard.press("1")
    later(page, 0.3)
    runs, end, said = heard(page, "mixture", signals)
    assert [name for name, _ in runs][-3:] == [name, "", "mixture"]
    assert said == pytest.approx(end, abs=0.05)


def test_the_residual_is_of_the_system_heard_last_and_in_its_place(three):
    page, signals = three()
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
    sounds = {"mixture": wave, "ours": -wave, "theirs": 0.5 * wave}
    page = show(make(tmp_path, empty("ours", "theirs"), sounds=[sounds]))
    choose(page)
    later(page, 0.1)
    for key in "4342431":  # from the residual to another system, whose residual takes its place, and back
        page.keyboard.press(key)
        later(page, 0.2)
    recorded = np.trim_zeros(unpack(page.evaluate("recorded()")[0]))  # on a busy machine playing begins inside the wave
    assert len(recorded) > 1.2 * RATE
    assert np.abs(np.diff(recorded)).max() < 0.03  # the sine itself, twice as loud in the residual: 0.012


def test_a_pause_keeps_the_position_and_a_switch_in_it_counts(three):
    page, signals = three()
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


def test_a_click_in_a_spectrogram_goes_to_that_place_in_that_signal(three):
    page, signals = three()
    box = page.locator("[data-signal=ours] .view").bounding_box()
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 5)
    later(page, 0.4)
    runs, end, said = heard(page, "ours", signals)
    assert runs[-1][0] == "ours" and end - runs[-1][1] == pytest.approx(15, abs=0.05)  # of 20 s
    assert said == pytest.approx(end, abs=0.05)


def test_the_cursor_and_the_time_move_as_the_sound_does(three):
    page, _ = three(4)
    for s in (0.4, 0.8):
        later(page, 0.4)
        a, b = page.evaluate("['mixture', 'residual'].map(s => parseFloat(views.get(s).cursor.style.left))")
        assert a == b and a > 100 * (s - 0.05) / 4
    page.keyboard.press(" ")
    page.wait_for_timeout(50)
    left, at = page.evaluate("[parseFloat(views.get('mixture').cursor.style.left), position()]")
    assert left == pytest.approx(100 * at / 4, abs=0.01)
    assert page.inner_text("#time") == f"0:{int(at * 10) / 10:04.1f} / 0:04.0"


def test_arrows_go_a_second_on_and_back_but_not_beyond_the_ends_and_from_its_end_a_file_plays_again(three):
    page, _ = three(3.5)
    page.keyboard.press(" ")
    page.evaluate("seek(0.25)")
    found = []
    for key in ("Right", "Right", "Right", "Right", "Left", "Left", "Left", "Left", "Right", "Right", "Right", "Right"):
        page.keyboard.press(f"Arrow{key}")
        found.append(page.evaluate("position()"))
    assert found == pytest.approx([1.25, 2.25, 3.25, 3.5, 2.5, 1.5, 0.5, 0, 1, 2, 3, 3.5])
    page.keyboard.press(" ")
    assert page.evaluate("[player.playing, player.offset]") == [True, 0]
    page.wait_for_function("!player.playing")
    assert page.evaluate("position()") == 0 and page.inner_text("#play") == "Play"


def test_a_signal_that_ends_early_is_silent_from_there_in_sound_residual_and_picture(show, tmp_path):
    mixture, ours = noise(0, 2), noise(1, 1)
    page = show(make(tmp_path, empty("ours"), sounds=[{"mixture": mixture, "ours": ours}]))
    choose(page)
    drawn(page)
    residual = samples(page, "residual")
    np.testing.assert_allclose(residual, mixture - np.pad(ours, (0, RATE)), atol=1e-4)
    bright = pixels(page, "ours").sum(axis=(0, 2))
    assert bright[:280].min() > 10_000 and bright[325:].max() < 1000  # of 600 columns


@pytest.mark.parametrize("short", ["mixture", "ours"])
def test_a_file_ends_with_its_longest_signal(short, show, tmp_path):
    lengths = {"mixture": 2.2, "ours": 2.2} | {short: 0.2}
    page = show(make(tmp_path, empty("ours"), sounds=[{name: noise(0, s) for name, s in lengths.items()}]))
    choose(page)
    later(page, 0.6)
    assert page.evaluate("player.playing")
    page.wait_for_function("!player.playing")


def test_one_sample_is_a_file_like_any_other(show, tmp_path):
    page = show(make(tmp_path, empty("ours"), sounds=[{"mixture": np.array([0.5]), "ours": np.array([0.25])}]))
    choose(page, wait="player.duration")
    page.wait_for_function("!player.playing")
    assert samples(page, "residual").tolist() == pytest.approx([0.25], abs=1e-4)
    drawn(page)


def test_signals_over_full_scale_are_turned_down_together_and_the_page_says_so(show, tmp_path):
    mixture, ours = noise(0, 1) * 10, noise(1, 1)  # up to 2, and to 0.2
    mixture[7] = 2
    page = show(make(tmp_path, empty("ours"), sounds=[{"mixture": mixture, "ours": ours}]))
    choose(page)
    assert page.inner_text("#message") == "turned down by 6.0 dB to fit full scale"
    for name, x in ("mixture", mixture), ("ours", ours), ("residual", mixture - ours):
        np.testing.assert_allclose(samples(page, name), x / 2, atol=1e-4)


def test_of_two_files_chosen_at_once_the_second_is_heard(show, tmp_path):
    first, second = noise(0, 8), noise(1, 8)
    page = show(make(tmp_path, empty(n=2), sounds=[{"mixture": first}, {"mixture": second}]))
    page.evaluate("load(0), load(1)")
    page.wait_for_function("player.playing")
    later(page, 0.4)
    runs, _, _ = heard(page, "second", {"first": first, "second": second})
    assert [name for name, _ in runs] == ["second"]
    assert page.inner_text("#file") == "file_1"
    assert page.locator("tr.open").all_inner_texts() == page.locator("#files tbody tr").all_inner_texts()[1:]


def test_the_system_that_is_heard_stays_so_from_file_to_file_as_long_as_it_is_there(show, tmp_path):
    sounds = [{"mixture": noise(i, 1), "ours": noise(i, 1) / 2, "theirs": noise(i, 1) / 3} for i in range(2)]
    sounds.append({"mixture": noise(0, 1), "target": noise(1, 1)})
    page = show(make(tmp_path, empty("ours", "theirs", n=3), sounds=sounds))
    choose(page)
    page.keyboard.press("3")
    choose(page, 2)
    assert page.evaluate("[player.heard, player.residualOf]") == ["theirs", "theirs"]
    assert page.locator("#player [aria-pressed=true]").all_inner_texts() == ["3 · theirs"]
    choose(page, 3)
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
