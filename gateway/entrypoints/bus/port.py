"""What a role needs of a bus, whichever it is."""

from typing import Protocol


class BusAway(Exception):  # noqa: N818 - it names a situation
    """The bus does not answer: worth waiting for."""


class BusUnfit(Exception):  # noqa: N818 - as above
    """The bus is not as it must be; the message says what to do, and waiting does not help."""


class Bus(Protocol):
    """The subscription of one worker process to `tool-calls`."""

    @property
    def paused(self) -> bool:
        """Whether reading was told to wait."""

    async def prepare(self) -> None:
        """See to it that everything is there that is read and written. Raises `BusAway`, `BusUnfit`."""

    async def start(self) -> None:
        """Begin to read."""

    async def stop(self) -> None:
        """Finish the batch in hand and read no more, whatever is asked for later."""

    async def pause(self) -> None:
        """Read no more for now: what is published waits."""

    async def resume(self) -> None:
        """Read again."""

    async def look_after(self) -> None:
        """Mend what is missing, and start again a subscription that gave up."""

    async def sweep(self) -> int:
        """Take in again what was left behind; returns how many entries that were."""
