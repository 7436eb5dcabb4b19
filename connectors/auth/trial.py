"""A token in this process's memory. One that took the place of a refused one is tried by one call before the others use it."""

import asyncio
import contextlib
from dataclasses import dataclass

from connectors.auth.freshness import Window
from connectors.auth.token_store import AccessToken


@dataclass(slots=True)
class Memory:
    """One connection's token, as long as this process may use it."""

    token: AccessToken
    window: Window
    used_s: float
    """When somebody last asked for it, epoch seconds."""
    proven: bool = True
    """Whether the vendor has taken it, or there is no reason to doubt that it does."""
    trial: asyncio.Event | None = None

    async def admit(self, patience_s: float) -> bool:
        """Tell whether a call may use it. One tries; the others wait `patience_s` at most for what comes of that."""
        if self.proven:
            return True
        if self.trial is None:
            self.trial = asyncio.Event()
            return True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.trial.wait(), patience_s)
        return self.proven

    def tried(self, *, accepted: bool) -> None:
        """End the trial, if there is one."""
        if self.trial is not None:
            self.proven = accepted
            self.trial.set()
            self.trial = None
