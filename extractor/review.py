"""A person decides about clips: the page is served to this machine alone, and every decision is saved at once."""

import json
import secrets
import threading
import webbrowser
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from extractor import UserError, tables

DECISIONS = "decisions.json"  # beside the page: id of a clip -> whether it is to be accepted
MOST_BYTES = 1 << 20          # of one message from the page


def decisions(folder: Path) -> dict[str, bool]:
    """Returns what a person decided, by the id of a clip."""
    return {key: value for key, value in tables.read_json(folder / DECISIONS).items() if isinstance(value, bool)}


class Handler(SimpleHTTPRequestHandler):
    """Serves the files of a folder, and takes decisions, at addresses that begin with the token."""

    def __init__(self, *args, token: str, lock: threading.Lock, **kwargs):
        self.token, self.lock = token, lock
        super().__init__(*args, **kwargs)

    def begins_with_token(self) -> bool:
        found = self.path.startswith(f"/{self.token}/")
        self.path = self.path.removeprefix(f"/{self.token}")
        if not found:
            self.send_error(HTTPStatus.FORBIDDEN)
        return found

    def send_head(self):
        return super().send_head() if self.begins_with_token() else None

    def do_POST(self):
        """Takes {"clip": id, "accept": true, false or null}; null takes a decision back."""
        if not self.begins_with_token():
            return
        if self.path != "/decisions":
            return self.send_error(HTTPStatus.NOT_FOUND)
        try:
            n = int(self.headers["Content-Length"])
            asked = json.loads(self.rfile.read(n)) if n <= MOST_BYTES else {}
            clip, accept = str(asked["clip"]), asked["accept"]
        except (KeyError, TypeError, ValueError):
            return self.send_error(HTTPStatus.BAD_REQUEST)
        path = Path(self.directory, DECISIONS)
        with self.lock:
            kept = decisions(path.parent)
            kept.pop(clip, None)
            if isinstance(accept, bool):
                kept[clip] = accept
            try:
                tables.write_json(path, kept)
            except UserError as e:
                return self.send_error(HTTPStatus.INSUFFICIENT_STORAGE, str(e))
        self.send_response(HTTPStatus.NO_CONTENT)
        self.end_headers()

    def log_message(self, *_):
        pass


def server(folder: Path) -> tuple[ThreadingHTTPServer, str]:
    """Returns a server of the page in a folder, for this machine alone, and the address to open. The address holds a
    token, so that no other page can ask for anything."""
    token = secrets.token_urlsafe(16)
    handler = partial(Handler, directory=str(folder), token=token, lock=threading.Lock())
    found = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    return found, f"http://127.0.0.1:{found.server_port}/{token}/index.html"


def serve(folder: Path):
    """Opens the page of a folder and saves what a person decides there, until it is stopped by Ctrl-C."""
    found, address = server(folder)
    print(f"keys y and n decide, u takes back; all is saved at once; end with Ctrl-C: {address}", flush=True)
    webbrowser.open(address)
    with found, suppress(KeyboardInterrupt):
        found.serve_forever()
    print()
