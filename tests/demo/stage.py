"""What a scene plays on: a gateway in processes of its own, the vendor, a terminal, and the hand that types commands."""

import json
import os
import pty
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from redis import Redis
from rich.console import Console
from rich.text import Text

from tests.demo import ledger
from tests.demo.ground import ROOT, Ground
from tests.vendor.client import VendorProcess

COLUMNS = 100
ENOUGH_S = 40.0
"""No step takes so long; what does is told, and the demo goes on."""

LOOK_EVERY_S = 0.05
OPERATOR = "night-shift"
SECRETS = {"id": "client", "secret": "s3cret/with+signs", "refresh": "refresh-0", OPERATOR: "key-of-the-night-shift"}
ASKING = {"Authorization": f"Bearer {SECRETS[OPERATOR]}", "Accept": "application/json"}


class Late(Exception):  # noqa: N818 - a situation
    """Something that was waited for did not come; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Something that is said to be so, beside what was counted."""

    said: str
    counted: str
    kept: bool


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended."""

    code: int
    text: str


def manifests(folder: Path, vendor: str) -> str:
    """Write the credentials into `folder` and return the manifests that refer to them."""
    for name, secret in SECRETS.items():
        (folder / name).write_text(secret, encoding="utf-8")
    text = Path(__file__).with_name("connectors.yaml").read_text(encoding="utf-8")
    return text.replace("VENDOR", vendor).replace("SECRETS", str(folder))


class Stage:
    """One run of the demo."""

    def __init__(self, ground: Ground, vendor: VendorProcess, console: Console) -> None:
        self.ground = ground
        self.vendor = vendor
        self.console = console
        self.redis: Redis = ground.redis

    def __repr__(self) -> str:
        return f"<Stage {self.ground.url}, {self.vendor!r}>"

    def publish(self, identity: str, tool: str, arguments: Mapping[str, Any], *, session: str = "night") -> None:
        """Publish one call as an agent does: by XADD, to nobody in particular."""
        event = {
            "specversion": "1.0",
            "type": "tool.call.requested",
            "source": "agent/demo",
            "id": identity,
            "data": {"tool": tool, "arguments": arguments, "session": session},
        }
        self.redis.xadd("tool-calls", {"data": json.dumps(event)})

    def results(self, prefix: str) -> dict[str, dict[str, Any]]:
        """Return the results of the calls whose events are called so, by the event's id; a replay's takes the first's place."""
        found = [one["data"] for one in ledger.results(self.redis)]
        return {one["request"]["id"]: one for one in found if one["request"]["id"].startswith(prefix)}

    def letters(self, prefix: str) -> dict[str, dict[str, Any]]:
        """Return their dead letters."""
        found = [one["data"] for one in ledger.letters(self.redis)]
        named = [(one["identity"]["event_id"] or "", one) for one in found]
        return {identity: one for identity, one in named if identity.startswith(prefix)}

    def until_ended(self, prefix: str, count: int) -> dict[str, dict[str, Any]]:
        """Wait until so many of these calls have a result, and return them."""
        self.until(lambda: len(self.results(prefix)) >= count, f"{count} results of {prefix}")
        return self.results(prefix)

    def until(self, holds: Callable[[], bool], what: str, enough_s: float = ENOUGH_S) -> None:
        """Wait until it holds; raises `Late`."""
        give_up = time.monotonic() + enough_s
        while not holds():
            if time.monotonic() > give_up:
                raise Late(f"{what}: not within {enough_s:.0f} s")
            time.sleep(LOOK_EVERY_S)

    def arrived(self, operation: str) -> int:
        """Return how many requests of one operation the vendor has counted."""
        return self.vendor.counts(names=False).by_operation.get(operation, 0)

    def ask(self, path: str) -> Any:
        """Ask the API a question as the operator; None when it says no."""
        request = urllib.request.Request(self.ground.url + path, headers=ASKING)  # noqa: S310 - our own loopback URL
        try:
            with urllib.request.urlopen(request, timeout=ENOUGH_S) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError:
            return None

    def waiting(self) -> list[dict[str, Any]]:
        """Return the calls that wait for a person."""
        found: list[dict[str, Any]] = self.ask("/v1/approvals")["approvals"]
        return found

    def say(self, text: str, style: str = "") -> None:
        """Tell something in a sentence."""
        self.console.print(Text(text, style=style))

    def sluice(self, *words: str, rows: Sequence[str] = (), most: int = 14) -> Ran:
        """Run `sluice` as somebody at a terminal does, and show the command and what it said.

        With `rows` only lines that begin so are shown, and those that go on from them.
        """
        self.console.print(Text(f"$ sluice {shlex.join(words)}", style="bold cyan"))
        ran = self._typed(words)
        shown = trimmed(Text.from_ansi(ran.text).split(allow_blank=False), rows, most)
        for line in shown:
            line.rstrip()
            self.console.print(Text("  ") + line, no_wrap=True, crop=True)
        return ran

    def _typed(self, words: Sequence[str]) -> Ran:
        ours, theirs = pty.openpty()
        environment = {
            **self.ground.environment,
            "SLUICE_KEY": SECRETS[OPERATOR],
            "PYTHONPATH": str(ROOT),
            "COLUMNS": str(COLUMNS - 2),
            "TERM": "xterm",
        }
        command = [sys.executable, "-m", "gateway", *words]
        with (
            os.fdopen(ours, "rb", buffering=0) as reader,
            os.fdopen(theirs, "wb", buffering=0) as writer,
            subprocess.Popen(
                command, cwd=self.ground.folder, env=environment, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer
            ) as process,
        ):
            writer.close()
            said = b"".join(iter(lambda: _read(reader), b""))
        return Ran(process.returncode, said.decode().replace("\r\n", "\n"))


def _read(terminal: IO[bytes]) -> bytes:
    with suppress(OSError):  # how Linux says that nobody holds the other end
        return terminal.read(65_536)
    return b""


def trimmed(lines: Iterable[Text], rows: Sequence[str], most: int) -> list[Text]:
    """Leave out rows nobody asked for, and what is too much."""
    kept: list[Text] = []
    wanted = True
    for line in lines:
        begins = not line.plain.startswith("   ")
        wanted = (line.plain.startswith(tuple(rows)) if begins else wanted) if rows else True
        if wanted and line.plain.strip():
            kept.append(line)
    return [*kept[:most], *([Text("…", style="dim")] if len(kept) > most else [])]
