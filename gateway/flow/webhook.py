"""Sends alerts to a webhook: in the order of the topic, each at least once and always under the same id.

One worker at a time does it. The place in the topic moves only after the receiver has taken a message, so whoever dies in between
leaves it to the next, which sends it again. What happens to the webhook itself is logged and never becomes an alert: that would
feed itself.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from connectors.exchange import Answered, Exchange, RenderedRequest, SendPolicy
from connectors.retry_after import retry_after_s
from gateway.policy import webhooks
from gateway.policy.webhooks import Message, Target
from gateway.ports import Ambient
from gateway.ports.alerts import Entry, Places

log = structlog.get_logger()

TURN: Final = "webhook"
READER: Final = "webhook"
TIMEOUT_S: Final = 15.0
"""One try, in total; the receiver has to answer within it, as the specification advises."""
LEASE_S: Final = 40.0
"""Longer than a try: nobody else begins meanwhile."""
BATCH: Final = 50
BACK_S: Final = 3600.0
"""A webhook that is new is told of the last hour."""

Send = Callable[[RenderedRequest, SendPolicy], Awaitable[Exchange]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """What the sender works with."""

    places: Places
    send: Send
    alerts: Sequence[str]
    """Names of the topics: each is sent in its order."""
    target: Target | None
    """None: there is no webhook."""


class Webhook:
    """The use-case; one instance a process."""

    def __init__(self, mail: Mail, ambient: Ambient, *, timeout_s: float = TIMEOUT_S, lease_s: float = LEASE_S) -> None:
        """`lease_s` must be longer than `timeout_s`."""
        self._mail = mail
        self._ambient = ambient
        self._lease_s = lease_s
        self._tries = 0
        self._not_before_s = 0.0
        private = mail.target is not None and mail.target.private
        self._policy = SendPolicy(
            timeout_s=timeout_s, allow_private=private, fresh=False, cap_wire_bytes=65_536, cap_decoded_bytes=65_536
        )

    async def run(self) -> None:
        """Send what is due, if it is our turn; ends at the first message that is not taken."""
        target, places = self._mail.target, self._mail.places
        if target is None or self._ambient.monotonic() < self._not_before_s:
            return
        for number, topic in enumerate(self._mail.alerts):
            reader = READER if number == 0 else f"{READER}:{topic}"
            while await places.turn(TURN, lease_s=self._lease_s):
                before = await places.place(reader)
                after = before or f"{await places.now_ms() - int(BACK_S * 1000)}-0"
                entries = await places.read(topic, after, BATCH)
                if not entries:
                    break
                if not await self._batch(reader, entries, before, target):
                    return

    async def _batch(self, reader: str, entries: Sequence[Entry], before: str, target: Target) -> bool:
        for entry in entries:
            # The turn is renewed before each try: a try is shorter than it.
            if not await self._mail.places.turn(TURN, lease_s=self._lease_s):
                return False
            if not await self._handled(entry, target):
                return False
            if not await self._mail.places.move(reader, before, entry.id):
                return False
            before = entry.id
        return True

    async def _handled(self, entry: Entry, target: Target) -> bool:
        """Tell whether an entry is done with: taken, of no concern, or too old."""
        message = webhooks.message(entry.event)
        if message is None:
            return True
        if self._ambient.now().timestamp() - int(entry.id.partition("-")[0]) / 1000 > webhooks.GIVE_UP_S:
            log.error("webhook.given_up", message=message.id, type=message.type, host=target.host)
            return True
        return await self._sent(message, target)

    async def _sent(self, message: Message, target: Target) -> bool:
        now = self._ambient.now().timestamp()
        problem, asked_s = target.refusal, None
        if problem is None:
            answer = await self._mail.send(webhooks.request(message, int(now), target), self._policy)
            problem = _problem(answer)
            asked_s = retry_after_s(answer.headers, now) if isinstance(answer, Answered) else None
        if problem is None:
            self._tries, self._not_before_s = 0, 0.0
            log.info("webhook.delivered", message=message.id, type=message.type, host=target.host)
            return True
        self._tries += 1
        wait_s = self._ambient.uniform(0.8, 1.0) * webhooks.pause_s(self._tries, asked_s)
        self._not_before_s = self._ambient.monotonic() + wait_s
        told = {"message": message.id, "host": target.host, "tries": self._tries, "again_in_s": round(wait_s, 1)}
        log.warning("webhook.failed", problem=problem, **told)
        return False


def _problem(answer: Exchange) -> str | None:
    """Say why a message was not taken; the receiver's words are not told: nobody knows what is in them."""
    if isinstance(answer, Answered):
        return None if 200 <= answer.status < 300 else f"the receiver answered {answer.status}"
    return answer.message
