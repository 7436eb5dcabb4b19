"""One run of the vendor: its books, its script, its business, its limits, its gate. A reset replaces all of them at once."""

import asyncio

from tests.vendor.credentials import Requirement
from tests.vendor.limiter import Limiters
from tests.vendor.record import Record
from tests.vendor.script import Script
from tests.vendor.shop import Shop
from tests.vendor.tokens import Desk


class World:
    def __init__(self) -> None:
        self.record = Record()
        self.script = Script()
        self.shop = Shop()
        self.desk = Desk()
        self.limits = Limiters()
        self.auth = Requirement()
        self._gate = asyncio.Event()

    async def hold(self) -> None:
        """Wait for the next release; the books show how many do."""
        gate = self._gate
        self.record.held += 1
        try:
            await gate.wait()
        finally:
            self.record.held -= 1

    def release(self) -> int:
        """Let go of all that are held now; who comes later waits for the next time."""
        released = self.record.held
        self._gate.set()
        self._gate = asyncio.Event()
        return released


class Stage:
    """Where the present world stands."""

    def __init__(self) -> None:
        self.world = World()

    def renew(self) -> None:
        """Open a new world. Calls in flight close in the old one, and what it held goes on."""
        self.world.release()
        self.world = World()
