"""Alerts for people: which stand, which stood, and a person's word that ends one."""

from collections.abc import Sequence

import structlog

from gateway.flow.lane_control import MOST_REASON
from gateway.flow.refusals import Conflict, Nowhere, Unfit
from gateway.ports.alerts import AlertBook
from schemas.alert import AlertRecord

log = structlog.get_logger()


class AlertControl:
    """The use-case; one instance a process."""

    def __init__(self, book: AlertBook) -> None:
        """`book` is where alerts stand."""
        self._book = book

    async def ls(self, *, whole: bool) -> Sequence[AlertRecord]:
        """List open alerts, the newest first; `whole`: also those that were resolved within a day."""
        told = [one for one in await self._book.ls() if one.alert and (whole or one.state == "open")]
        return sorted(told, key=lambda one: (one.state != "open", -one.opened_us))

    async def show(self, alert: str) -> AlertRecord:
        """Look at one; raises `Nowhere`."""
        for one in await self._book.ls():
            if one.alert == alert:
                return one
        raise Nowhere("", f"there is no alert {alert}, or it was resolved more than a day ago")

    async def resolve(self, alert: str, *, by: str, reason: str) -> AlertRecord:
        """End one on a person's word: it opens again only when its pattern was quiet once. Raises `Nowhere`, `Unfit` and `Conflict`."""
        said = reason.strip()
        if not 0 < len(said) <= MOST_REASON or not said.isprintable():
            raise Unfit("/reason", f"a reason has 1 to {MOST_REASON} printable characters, on one line")
        answer, record = await self._book.end(await self.show(alert), by=by, reason=said)
        if record is None:
            raise Nowhere("", f"there is no alert {alert} any more")
        if answer != "resolved":
            raise Conflict(f"alert {alert} was resolved {record.resolved}, {_whose(record)}")
        log.warning("alert.ended", alert=alert, kind=record.kind, about=record.subject, who=by, reason=said)
        return record


def _whose(record: AlertRecord) -> str:
    return f"by {record.by}" if record.by else "when it was quiet"
