"""The way back from a person's consent: one request to a port of the loopback (RFC 8252 §7.3), with a state nobody can guess."""

import hmac
import secrets
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

from connectors.auth.consent import challenge_of

_DONE = b"<!doctype html><title>Sluice</title><p>Thank you. You may close this page."


@dataclass(frozen=True, slots=True)
class Came:
    """What the browser brought."""

    code: str | None
    error: str


class Consent:
    """Listens while it is entered."""

    def __init__(self) -> None:
        self.state = secrets.token_urlsafe(24)
        self.verifier = secrets.token_urlsafe(48)
        self._came: Came | None = None
        self._server = HTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def challenge(self) -> str:
        """What the vendor holds the verifier against."""
        return challenge_of(self.verifier)

    @property
    def redirect_uri(self) -> str:
        """Where the browser comes back to."""
        return f"http://127.0.0.1:{self._server.server_port}/callback"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()

    def wait(self, seconds: float) -> Came | None:
        """Answer requests until the right one comes; None when it does not."""
        end = time.monotonic() + seconds
        while self._came is None and (left := end - time.monotonic()) > 0:
            self._server.timeout = left
            self._server.handle_request()
        return self._came

    def _take(self, path: str) -> bool:
        place = urlsplit(path)
        told = {name: values[0] for name, values in parse_qs(place.query).items()}
        if place.path != "/callback" or not hmac.compare_digest(told.get("state", "").encode(), self.state.encode()):
            return False
        self._came = Came(told.get("code"), told.get("error", "it did not say why")[:100])
        return True

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        take = self._take

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                good = take(self.path)
                self.send_response(200 if good else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(_DONE if good else b"")

            def log_message(self, *_: object) -> None:
                """Say nothing: the line would hold the code."""

        return Handler
