"""The page's table of files, and who comes to it by keyboard, by phone, by night."""

import re

import numpy as np
import pytest
from browser import choose, column, empty, make, noise, sort


@pytest.fixture
def five(show, tmp_path):
    """The page of five files."""
    gains, snrs = [2.0, None, -10.0, 2.0, 10.0], [5.0, None, -5.0, 0.0, 10.0]
    scores = {"mixture": [{"si_sdr": -1.0, "si_sdri": 0.0}] * 5,
              "ours": [{} if gain is None else {"si_sdr": gain - 1, "si_sdri": gain, "pesq": 1.5} for gain in gains]}
    items = [{"name": f"file {10 - i}", "kind": ["voice", "non-speech"][i % 2], "snr_db": snr_db, "seconds": 2.0 + i}
             for i, snr_db in enumerate(snrs)]
    return show(make(tmp_path, scores, items))


def files(page) -> list[int]:
    """Their numbers, from top to bottom."""
    return [int(text.removeprefix("file ")) for text in column(page, "file")]


def test_numbers_sort_up_and_down_with_what_is_unknown_last_and_equals_in_order(five):
    assert column(five, "ours") == ["+2.0", "–", "−10.0", "+2.0", "+10.0"]
    heading = five.locator("#files th", has_text="ours")
    sort(five, "ours")
    assert column(five, "ours") == ["−10.0", "+2.0", "+2.0", "+10.0", "–"]
    assert files(five) == [8, 10, 7, 6, 9] and heading.get_attribute("aria-sort") == "ascending"
    sort(five, "ours")
    assert column(five, "ours") == ["+10.0", "+2.0", "+2.0", "−10.0", "–"]
    assert files(five) == [6, 10, 7, 8, 9] and heading.get_attribute("aria-sort") == "descending"
    sort(five, "SNR, dB")
    assert column(five, "SNR, dB") == ["−5", "0", "5", "10", "–"]


def test_text_sorts_as_people_count_and_is_shown_as_it_is(five):
    sort(five, "file")
    assert files(five) == [6, 7, 8, 9, 10]
    sort(five, "kind")
    assert column(five, "kind") == ["non-speech"] * 2 + ["voice"] * 3
    assert files(five) == [9, 7, 10, 8, 6] and column(five, "length, s") == ["3.0", "5.0", "2.0", "4.0", "6.0"]


def test_other_measures_and_systems_can_be_picked_and_the_order_stays(five):
    page = five
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


def test_the_filter_finds_names_and_kinds_and_the_next_file_is_the_next_shown(five):
    page = five
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
# by keyboard, by phone, by night


def test_keys_play_pause_switch_and_go_to_other_files(show, tmp_path):
    sounds = [{"mixture": noise(i, 9), "ours": noise(i + 3, 9)} for i in range(3)]
    scores = empty("ours", n=3) | {"ours": [{"si_sdri": 1.0}] * 3}
    page = show(make(tmp_path, scores, [{"name": f"n2 p{i}"} for i in range(3)], sounds))
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
    # but those that a field is given are its own
    page.get_by_label("filter files").press_sequentially("n2 p")
    page.keyboard.press("ArrowLeft")
    for label in ("Measure", "Show"):
        page.get_by_role("combobox", name=label, exact=True).focus()
        page.keyboard.press("n")
        page.keyboard.press("2")
    assert page.evaluate("[player.index, player.playing, player.heard]") == state
    assert page.get_by_label("filter files").input_value() == "n2 p" and len(column(page, "file")) == 3


def test_tab_goes_through_everything_in_order_and_shows_where_it_is(show, tmp_path):
    scores = {"mixture": [{"si_sdri": 0.0}] * 2, "ours": [{"si_sdri": 1.0}] * 2}
    page = show(make(tmp_path, scores, sounds=[{"mixture": noise(0, 9)}] * 2))
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
    page = show(make(tmp_path, empty(n=3), sounds=[{"mixture": noise(i, 9)} for i in range(3)]))
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
def test_nothing_is_wider_than_the_window_whatever_the_names_and_the_tenth_signal_has_the_key_0(width, show, tmp_path):
    long = "a_name_that_goes_on_" * 8
    systems = ("mixture", long, *(f"system {i}" for i in range(6)))
    scores = {name: [{"si_sdri": 1.0, "residual_level": 1.0}] * 2 for name in systems}
    make(tmp_path, scores, [{"name": long, "kind": long, "text": long}, {"name": "b", "kind": "b", "snr_db": 5.0}],
         [{name: noise(0, 0.3) for name in (*scores, "target")}], name=long, failures=[long], args={long: long},
         curves={long: {f"valid/{long}": [(0, 1.0), (1, 2.0)]}})
    page = show(tmp_path, width)
    choose(page, wait="views.size")
    page.keyboard.press("0")
    assert page.locator("#player [aria-pressed=true]").all_inner_texts() == [f"10 · residual of {long}"]
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
