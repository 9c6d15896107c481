"""What the page draws: spectrograms and plots."""

import re

import numpy as np
import pytest
from browser import choose, empty, make, pixels, sine


def mel(hz):
    return 2595 * np.log10(1 + np.asarray(hz) / 700)


def test_a_sine_is_a_line_at_its_frequency_and_the_top_is_half_the_rate(show, tmp_path):
    hz = {"mixture": 10_000, "ours": 16_000, "target": 21_950}
    page = show(make(tmp_path, empty("ours"), rate=44100, sounds=[{name: sine(f, 1) for name, f in hz.items()}]))
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


def test_the_spectrogram_of_the_residual_follows_the_system(show, tmp_path):
    low, high = sine(1000, 1), sine(5000, 1)
    sounds = {"mixture": low + high, "ours": low, "theirs": high}
    page = show(make(tmp_path, empty("ours", "theirs"), rate=44100, sounds=[sounds]))
    choose(page)
    for key, hz in ("3", 1000), ("2", 5000):
        page.keyboard.press(key)
        bright = pixels(page, "residual").sum(2)[:, 300]
        assert np.argmax(bright) == pytest.approx(160 * (1 - mel(hz) / mel(22050)) - 0.5, abs=1.01)


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
    scores = {"mixture": [{"residual_level": 0.0}] * 2, "ours": [{"residual_level": -30.0}, {"residual_level": -50.0}]}
    page = show(make(tmp_path, scores, [{"kind": "absent", "snr_db": None, "present": False}] * 2))
    figure = plotted(page, "left of absent, dB by kind")
    assert figure.locator("rect title").all_text_contents()[1] == "ours, absent: −40.0 [−50.0, −30.0], 2 files"
    assert page.locator("#summary figure").count() == 1
