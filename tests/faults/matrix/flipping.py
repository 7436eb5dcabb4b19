"""A worker that resolves one name otherwise each time, and notes whom it dials: `python -m tests.faults.matrix.flipping FILE`.

The name is first what it should be, then something that must never be dialled: an attacker's name server does so between the look
and the dial. What was dialled is noted beneath everything that judges, one address a line.
"""

import socket
import sys
from itertools import cycle
from pathlib import Path
from typing import Any

import aiohttp

from connectors import transport
from gateway import roles
from gateway.settings import Settings

NAME = "flips.example.com"
GOOD = "127.0.0.1"
ANSWERS = (GOOD, "169.254.169.254", GOOD, "100.100.100.200", GOOD, "169.254.170.2", "198.18.0.1")


def arm(dialled: Path) -> None:
    """Wrap the resolver and the socket."""
    turn, connect = cycle(ANSWERS), socket.socket.connect

    async def resolve(_: Any, host: str, port: int = 0, family: int = socket.AF_INET) -> list[dict[str, Any]]:
        address = next(turn) if host == NAME else host
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": family,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
        ]

    def noted(sock: socket.socket, address: Any) -> None:
        if isinstance(address, tuple):
            with dialled.open("a") as book:
                book.write(f"{address[0]}\n")
        connect(sock, address)

    aiohttp.ThreadedResolver.resolve = resolve  # type: ignore[assignment]
    socket.socket.connect = noted  # type: ignore[assignment, method-assign]
    # Each dial asks again.
    transport.DNS_CACHE_S = 0.001  # type: ignore[misc, assignment]


if __name__ == "__main__":
    arm(Path(sys.argv[1]).with_name("dialled"))
    sys.exit(roles.worker(Settings()))
