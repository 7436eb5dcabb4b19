"""Ending tasks, so that none of them opens a connection when what it uses is closed. Knows nothing of what they do."""

import asyncio
from collections.abc import Iterable
from typing import Any


async def ended(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel until they have ended: a library that waits for an answer may swallow a cancellation and go on."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.2)
