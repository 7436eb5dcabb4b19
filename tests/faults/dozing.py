"""A worker that is suspended with claims in its hands: it stops itself as soon as it has some, and SIGCONT wakes it."""

import functools
import os
import signal
import sys
from typing import Any

from gateway import roles
from gateway.lanes.queue import Lanes
from gateway.settings import Settings


def arm() -> None:
    """Wrap the claim so that the first that gives anything is followed by SIGSTOP, before the first call is begun."""
    whole, dozed = Lanes.claim, list[bool]()

    @functools.wraps(whole)
    async def dozing(*arguments: Any, **named: Any) -> Any:
        answer = await whole(*arguments, **named)
        if answer.claims and not dozed:
            dozed.append(True)
            os.kill(os.getpid(), signal.SIGSTOP)
        return answer

    Lanes.claim = dozing  # type: ignore[method-assign]


if __name__ == "__main__":
    arm()
    sys.exit(roles.worker(Settings()))
