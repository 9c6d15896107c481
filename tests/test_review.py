"""extractor/review.py and its page: decisions of a person, and who may ask for them."""

import json
import threading
import urllib.error
import urllib.request

import pytest
from browser import choose, column, make, noise

from extractor import review


@pytest.fixture
def served(tmp_path):
    (tmp_path / "page").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "page/index.html").write_text("the page")
    server, address = review.server(tmp_path / "page")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield address.removesuffix("/index.html"), tmp_path / "page"
    server.shutdown()
    thread.join()
    server.server_close()


def ask(address: str, message: dict | bytes | None = None) -> tuple[int, str]:
    body = message if isinstance(message, bytes | None) else json.dumps(message).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, ""


def test_a_decision_is_saved_at_once_and_can_be_changed_and_taken_back(served):
    address, folder = served
    assert ask(f"{address}/index.html") == (200, "the page") and review.decisions(folder) == {}
    for accept, kept in ((True, {"a": True}), (False, {"a": False}), (None, {})):
        assert ask(f"{address}/decisions", {"clip": "a", "accept": accept})[0] == 204
        assert review.decisions(folder) == kept
    ask(f"{address}/decisions", {"clip": "a", "accept": False})
    ask(f"{address}/decisions", {"clip": "b <&> 音", "accept": True})
    assert review.decisions(folder) == {"a": False, "b <&> 音": True}
    assert json.loads(ask(f"{address}/decisions.json")[1]) == {"a": False, "b <&> 音": True}


def test_who_does_not_know_the_address_gets_nothing_and_decides_nothing(served):
    address, folder = served
    host = address.rpartition("/")[0]
    assert host.startswith("http://127.0.0.1:")
    for place in ("", "/index.html", "/x/index.html", address[len(host):-1] + "/index.html"):
        assert ask(host + place)[0] == 403
    assert ask(f"{host}/x/decisions", {"clip": "a", "accept": True})[0] == 403 and review.decisions(folder) == {}
    assert ask(f"{address}/../secret.txt")[0] == 404 == ask(f"{address}/else", {"clip": "a", "accept": True})[0]
    assert review.decisions(folder) == {}


@pytest.mark.parametrize("message", [b"{", b"[]", b'{"clip": "a"}', b'{"accept": true}', b""])
def test_a_message_that_is_none_is_refused_and_changes_nothing(message, served):
    address, folder = served
    ask(f"{address}/decisions", {"clip": "a", "accept": True})
    assert ask(f"{address}/decisions", message)[0] == 400 and review.decisions(folder) == {"a": True}


def test_decisions_in_a_file_that_somebody_else_wrote_count_as_far_as_they_are_decisions(tmp_path):
    (tmp_path / review.DECISIONS).write_text('{"a": true, "b": "yes", "c": 1, "d": false}')
    assert review.decisions(tmp_path) == {"a": True, "d": False}
    (tmp_path / review.DECISIONS).write_text("{")
    assert review.decisions(tmp_path) == {}


# --- the page --------------------------------------------------------------------------------------------------------


def made(folder):
    """A page of three clips, of which the first is decided."""
    items = [{"id": f"id{i}", "decision": "accepted", "reason": "", "name": f"clip {i}"} for i in range(3)]
    rows = [{"predicted_si_sdr": 15.0 - i} for i in range(3)]
    sounds = [{"mixture": noise(i, 1), "estimate": noise(i + 9, 1)} for i in range(3)]
    return make(folder, {"mixture": [{}] * 3, "estimate": rows}, items, sounds, summary=None, decisions={"id0": False})


def test_keys_decide_about_what_is_heard_and_a_reload_knows_it(show, served):
    address, folder = served
    made(folder)
    review.tables.write_json(folder / review.DECISIONS, {"id0": False})
    page = show(folder, address=f"{address}/index.html")
    page.wait_for_selector("#files tbody tr:nth-child(3)")
    assert column(page, "decision") == ["refused by you", "accepted", "accepted"]
    assert column(page, "predicted SI-SDR, dB") == ["+15.0", "+14.0", "+13.0"]
    choose(page, 2)
    page.keyboard.press("n")
    page.wait_for_selector("tr.open[data-index='2']")  # it goes on to the next
    page.keyboard.press("y")
    page.wait_for_function("document.querySelectorAll('#files td:nth-child(2)')[2].textContent === 'accepted by you'")
    assert review.decisions(folder) == {"id0": False, "id1": False, "id2": True}
    page.keyboard.press("ArrowUp")
    page.wait_for_selector("tr.open[data-index='1']")
    page.keyboard.press("u")
    page.wait_for_function("document.querySelectorAll('#files td:nth-child(2)')[1].textContent === 'accepted'")
    assert review.decisions(folder) == {"id0": False, "id2": True}
    page.reload()
    page.wait_for_function("document.querySelectorAll('#files td:nth-child(2)')[2]?.textContent === 'accepted by you'")
    assert column(page, "decision") == ["refused by you", "accepted", "accepted by you"]


def test_opened_as_a_file_it_shows_decisions_and_says_how_to_make_some(show, tmp_path):
    page = show(made(tmp_path))
    assert column(page, "decision") == ["refused by you", "accepted", "accepted"]
    choose(page, 2)
    page.keyboard.press("y")
    page.wait_for_function("document.getElementById('message').textContent.includes('bootstrap.py --review True')")
    assert column(page, "decision") == ["refused by you", "accepted", "accepted"]
