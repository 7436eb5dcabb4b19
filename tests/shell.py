"""A command line of its own: runs `sluice` in a real process, and keeps what it said."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.vendor.client import ROOT

NOWHERE = "http://127.0.0.1:9"
"""Nothing answers there."""


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def shows_nothing(self) -> bool:
        """Whether stdout has no data; the problem document of a refusal is none."""
        return not self.out or str(self.data.get("type")).startswith("urn:sluice:problem:")


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs `sluice` in a directory of its own with an environment of its own."""

    folder: Path
    environment: dict[str, str]

    async def __call__(self, *words: str, stdin: str = "", **more: str) -> Ran:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway",
            *words,
            cwd=self.folder,
            env={**inherited, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **self.environment, **more},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
        return Ran(process.returncode or 0, out.decode(), err.decode())
