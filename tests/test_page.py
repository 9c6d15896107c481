"""The page as a whole: few files, many, and odd names; and its folder."""

import json

import numpy as np
import pytest
from browser import RATE, choose, column, empty, make, noise, read_sound, sort

from extractor import UserError
from extractor import page as pages

EVIL = (
    "<img src=x onerror=window.pwned=1>", "\"'</script><script>window.pwned=1</script>", "<!--<script>",
    "{{data}} {{title}} \\1 &lt;", "録音 日本語", "تسجيل عربي", "__proto__",
)
NO_UNICODE = b"caf\xe9".decode("utf-8", "surrogateescape")  # a file's name


def test_a_page_without_files_says_so_and_offers_nothing_to_play(show, tmp_path):
    page = show(make(tmp_path, empty("ours", n=0), summary={"mixture": {}, "ours": {}}))
    assert "0 files" in page.inner_text("header") and "There are no files here yet." in page.inner_text("main")
    assert page.locator("button:visible, input:visible, select:visible, kbd:visible").count() == 0
    page.keyboard.press("n")
    page.keyboard.press(" ")


def test_500_files_open_and_sort_and_no_sound_is_asked_for_before_it_is_wanted(show, tmp_path):
    n, rng = 500, np.random.default_rng(0)
    scores = {name: [{"si_sdri": float(x), "sdr": 1.0} for x in rng.normal(size=n)] for name in ("mixture", "ours")}
    sound = pages.add_sound(tmp_path, {"mixture": noise(0, 1)}, RATE)
    page = show(make(tmp_path, scores, [{"sound": sound}] * n))
    page.wait_for_selector("#files tbody tr:nth-child(500)")
    assert show.asked == [(tmp_path / "index.html").as_uri()]
    sort(page, "ours")
    values = [float(text.replace("−", "-")) for text in column(page, "ours")]
    assert values == sorted(values) and len(values) == n
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


def test_the_head_says_what_was_run_and_has_question_marks_for_what_is_no_unicode(show, tmp_path):
    scores = {"mixture": [{"si_sdri": -0.01}], "ours": [{"si_sdri": 1.0}]}
    items = [{"name": NO_UNICODE}]
    page = show(make(tmp_path, scores, items, name=NO_UNICODE, args={"pairs": "evaluation"}, failures=["a: b"]))
    assert page.title() == "caf?" and column(page, "file") == ["caf?"]
    assert page.inner_text("header p") == "1 file · mixture, ours · 2026-01-02 · commit 01234567+"
    assert page.locator("header summary").all_inner_texts()[1] == "1 failure"
    assert column(page, "mixture") == ["0.0"]  # no sign of less
    page.click("summary")
    assert '"pairs": "evaluation"' in page.inner_text("header pre >> nth=0")
    assert "SI-SDRi, dB: SI-SDR gained over the mixture" in page.inner_text("header details >> nth=0")


def test_what_infer_writes_has_no_targets_and_says_which_part_it_is(show, tmp_path):
    signals = {"mixture": noise(0, 2), "alice": noise(1, 2)}
    item = {"name": "a/b.wav", "seconds": 4000.0, "start_s": 61.0, "end_s": 121.5,
            "sound": pages.add_sound(tmp_path, signals, RATE)}
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


def test_sounds_are_kept_to_half_a_step_of_16_bits_and_only_what_is_over_full_scale_is_turned_down(tmp_path):
    x = noise(0, 0.1)
    x[0] = 1
    for loudness, expected in ((1, 1), (4, 0.25)):
        signals = {"mixture": loudness * x, "ours": -loudness * x}
        scale, found = read_sound(tmp_path / pages.add_sound(tmp_path, signals, RATE))
        assert scale == expected and found["ours"][1] == RATE
        np.testing.assert_allclose(found["mixture"][0] * 32768, x * 32767, atol=0.5 + 1e-3)
        np.testing.assert_array_equal(found["ours"][0], -found["mixture"][0])


def test_sounds_that_the_report_no_longer_names_are_removed(tmp_path):
    make(tmp_path, empty(n=3), sounds=[{"mixture": noise(i, 0.1)} for i in range(3)])
    kept = pages.add_sound(tmp_path, {"mixture": noise(1, 0.1)}, RATE)
    assert len(list((tmp_path / "index_files").iterdir())) == 3
    make(tmp_path, empty(), [{"name": "file_1", "sound": kept}])
    assert [f"index_files/{p.name}" for p in (tmp_path / "index_files").iterdir()] == [kept]


def test_a_page_that_cannot_be_written_leaves_the_old_one_with_its_sounds(tmp_path, monkeypatch):
    make(tmp_path, empty(), sounds=[{"mixture": noise(0, 0.1)}])
    pages.add_sound(tmp_path, {"mixture": noise(1, 0.1)}, RATE)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.*")}
    assert len(before) == 3

    def full(self, text, **kwargs):
        self.write_bytes(text.encode()[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(UserError, match=r"index\.html: cannot be written \(No space left on device\)"):
        make(tmp_path, empty(n=2))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.*")} == before
