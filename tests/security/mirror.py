"""A vendor that says back all it was sent, credentials first: in its body, in its headers, in its errors; and a token endpoint."""

import base64
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SECRETS = {
    "bearer": "cnry-bearer-Zm9vYmFyYmF6-4417",
    "api_key": "cnry/api+key=Q1-88f2",
    "password": "cnry:päss/wörd+29ab7",
    "client_secret": "cnry-client-secret-5d02c",
    "refresh_token": "cnry-refresh-token-e7719",
}
ISSUED = {"access": "cnry-access-issued-31fe0", "refresh": "cnry-refresh-issued-a84bd"}
ARGUMENT = "cnry-argument-private-60c3e"
STATUSES = (200, 302, 422, 500, 401)
"""The last one makes a credential doubtful: calls after it may have to wait."""


@contextmanager
def mirror() -> Iterator[str]:
    """Listen on a port of the loopback, and give the address."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while first := self.rfile.readline():
                head = [line for line in iter(self.rfile.readline, b"\r\n") if line]
                length = sum(int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length"))
                self.wfile.write(_answer(first, head, self.rfile.read(length)))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def _answer(first: bytes, head: list[bytes], body: bytes) -> bytes:
    path = first.split(b" ")[1]
    sent = next((line.split(b":", 1)[1].strip() for line in head if line.lower().startswith(b"authorization")), b"")
    said = {"line": first.decode("latin-1"), "head": [line.decode("latin-1") for line in head], "body": body.decode()}
    if sent.startswith(b"Basic "):
        said["decoded"] = base64.b64decode(sent[6:]).decode("utf-8", "replace")
    if path == b"/token":
        said |= {"access_token": ISSUED["access"], "refresh_token": ISSUED["refresh"], "token_type": "Bearer"}
        status, told = 200, json.dumps({**said, "expires_in": 3600})
    else:
        status = int(path.split(b"?")[0].rpartition(b"/")[2])
        told = json.dumps(
            {"id": "1", "error": {"code": sent.decode("latin-1"), "message": said}, "you": said}, ensure_ascii=False
        )
    content = told.encode()
    more = [
        b"Location: http://127.0.0.1/?token=" + sent.replace(b" ", b"+"),
        b"X-Request-Id: " + sent,
        b"X-Echo: " + path,
    ]
    lines = [b"HTTP/1.1 %d X" % status, b"Content-Type: application/json", b"Content-Length: %d" % len(content), *more]
    return b"\r\n".join(lines) + b"\r\n\r\n" + content


def connectors(url: str) -> str:
    """Declare a connector for each kind of credential, which come from the environment."""
    kinds = {
        "bearer": ("{type: bearer}", {"token": "bearer"}),
        "apikey": ("{type: api_key, in: query, name: key}", {"api_key": "api_key"}),
        "basic": ("{type: basic}", {"username": "user", "password": "password"}),
        "oauth": (
            "{type: oauth2, grant: refresh_token, token_url: /token, rotation: strict}",
            {"client_id": "user", "client_secret": "client_secret", "refresh_token": "refresh_token"},
        ),
    }
    text = ""
    for name, (auth, secrets) in kinds.items():
        named = ", ".join(f'{key}: "${{env:CANARY_{value.upper()}}}"' for key, value in secrets.items())
        operations = "".join(
            f"  s{status}: {{request: {{method: POST, path: /v1/{status}}}, class: unsafe}}\n" for status in STATUSES
        )
        text += f"""
---
apiVersion: sluice/v1
kind: Connector
metadata: {{name: {name}, version: 1.0.0}}
base_url: {url}
auth: {auth}
egress: {{allow_hosts: ["127.0.0.1"], allow_private: true}}
defaults: {{timeout: 5s, retry: {{max_attempts: 1}}, breaker: {{min_calls: 1000, consecutive: 1000}}}}
operations:
{operations}---
apiVersion: sluice/v1
kind: Connection
metadata: {{name: main, connector: {name}}}
secrets: {{{named}}}
"""
    return text


def environment() -> dict[str, str]:
    """Return what the connections refer to."""
    return {f"CANARY_{name.upper()}": secret for name, secret in SECRETS.items()} | {"CANARY_USER": "somebody"}
