"""A scripted receiver of webhooks: keeps what arrives, verifies it as its authors' library does, and answers as it is told."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook

SECRET = "whsec_" + "c2x1aWNlLWFsZXJ0cy1hcmUtc2lnbmVkLWhlcmUh"


@dataclass
class Receiver:
    url: str
    script: list[Any] = field(default_factory=list)
    """What it does with the next messages: a status, or seconds to wait before it answers 200; then 200."""
    arrived: list[dict[str, Any]] = field(default_factory=list)
    """Every try: id, whether it was taken, and the verified content."""
    retry_after: str | None = None
    """Told with everything that is not taken."""
    heard: Callable[[], None] = lambda: None
    """Called while a message is in its hands."""

    @property
    def taken(self) -> list[dict[str, Any]]:
        return [one for one in self.arrived if one["taken"]]

    def until(self, condition: Callable[[], Any], timeout_s: float = 20) -> None:
        give_up = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < give_up, self.arrived
            time.sleep(0.02)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Listen on a port of the loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            told = Webhook(SECRET).verify(body, dict(self.headers.items()))
            behaviour = receiver.script.pop(0) if receiver.script else 200
            status = 200 if isinstance(behaviour, float) else behaviour
            one = {"id": self.headers["webhook-id"], "taken": 200 <= status < 300, "body": body, **told}
            one["stamp"] = self.headers["webhook-timestamp"]
            if isinstance(behaviour, float):
                one["taken"] = False  # the answer may come too late
                receiver.arrived.append(one)
                receiver.heard()
                time.sleep(behaviour)
            else:
                receiver.arrived.append(one)
                receiver.heard()
            try:
                self.send_response(status)
                self.send_header("content-length", "0")
                if receiver.retry_after and status >= 400:
                    self.send_header("retry-after", receiver.retry_after)
                self.end_headers()
            except OSError:  # nobody waits for the answer any more
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}/hooks/path-is-secret?token=also")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield receiver
    server.shutdown()
    server.server_close()
    thread.join()
