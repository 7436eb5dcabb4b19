"""`python -m tests.vendor`: listens, says where in one line of JSON, and runs until SIGTERM."""

import argparse
import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import cast

from tests.vendor.server import listen

PR_SET_PDEATHSIG = 1
GOODBYE_S = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.vendor", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--die-with-parent", action="store_true", help="never outlive the process that started it")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner, suppress(KeyboardInterrupt):
        runner.run(_run(arguments.host, arguments.port, die_with_parent=arguments.die_with_parent))


async def _run(host: str, port: int, *, die_with_parent: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if die_with_parent:
        _die_with_parent(stop)
    server, vendor = await listen(host, port)
    bound = server.sockets[0].getsockname()[1]
    print(json.dumps({"url": f"http://{host}:{bound}"}), flush=True)
    await stop.wait()
    server.close()
    await vendor.shutdown(GOODBYE_S)


def _die_with_parent(stop: asyncio.Event) -> None:
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # Also for systems that have no such call.
    _look_for(parent, stop)


def _look_for(parent: int, stop: asyncio.Event) -> None:
    if os.getppid() != parent:
        stop.set()
        return
    asyncio.get_running_loop().call_later(1.0, _look_for, parent, stop)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        return cast("Callable[[], asyncio.AbstractEventLoop]", import_module("uvloop").new_event_loop)
    except ImportError:
        return None


if __name__ == "__main__":
    main()
