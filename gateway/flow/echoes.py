"""Answers of vendors as they came, for callers in this very process; in memory only, never stored.

A result keeps what an answer means, and a letter seals what a refusal said. A client library in the same process needs both as
they were, to raise the errors it was written for.
"""

from collections import OrderedDict

from connectors.exchange import Answered
from schemas.tool_call import ToolCall

ENGINE = "sdk"
"""The origin of calls whose answers are kept here."""

KEPT_BYTES = 33_554_432
"""All answers together; the oldest go first."""

_OVERHEAD = 1024


class Echoes:
    """The last answer to each call; keeps nothing before somebody listens."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._answers: OrderedDict[str, Answered] = OrderedDict()
        self._size = 0
        self.listening = False

    def heard(self, call: ToolCall, answer: Answered) -> None:
        """Keep the answer if a caller in a process like this one waits for it."""
        if not self.listening or call.origin.engine != ENGINE:
            return
        self.forget(call.id)
        self._answers[call.id] = answer
        self._size += len(answer.body) + _OVERHEAD
        while self._size > self._kept_bytes and self._answers:
            self.forget(next(iter(self._answers)))

    def of(self, call: str, status: int | None) -> Answered | None:
        """Return the last answer to a call, if that is the one its end speaks of."""
        answer = self._answers.get(call)
        return answer if answer is not None and answer.status == status else None

    def forget(self, call: str) -> None:
        """Let an answer go."""
        answer = self._answers.pop(call, None)
        if answer is not None:
            self._size -= len(answer.body) + _OVERHEAD
