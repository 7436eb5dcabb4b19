"""The token stage of a call: a credential goes on its request, or the call waits; and what a refused token means for it.

A call that waits for a token has spent nothing: no attempt, no slot of a limit.
"""

from dataclasses import dataclass
from typing import Final

from connectors.auth.found import ConfigError, NeedsConsent, Waiting
from connectors.auth.grants import lacks_scope
from connectors.auth.token_source import TokenSource
from connectors.auth.token_store import AccessToken
from connectors.credentials import NO_CONNECTION, authorise, with_token
from connectors.declared import Connection, Operation
from connectors.exchange import Answered, Exchange, RenderedRequest, Unavailable
from schemas.effect import Effect
from schemas.failure import Failure
from schemas.outcome import Outcome

LOOK_AGAIN_S: Final = 1.0
"""The gate of a credential that needs a person follows its state at once; a call that slipped through looks again then."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A request that may be sent, and the token on it, if its connector uses tokens."""

    request: RenderedRequest
    token: AccessToken | None = None

    def revealing(self) -> tuple[str, ...]:
        """Return the texts that would give the token away."""
        return (self.token.value.reveal(),) if self.token else ()


async def authorised(
    tokens: TokenSource, request: RenderedRequest, operation: Operation, connection: Connection | None, now_s: float
) -> Ready | Unavailable | Outcome:
    """Put the credential on a request; an outcome says that the call has to wait for one."""
    if operation.auth.oauth2 is None:
        plain = authorise(request, operation.auth, connection)
        return plain if isinstance(plain, Unavailable) else Ready(plain)
    if connection is None:
        return Unavailable(NO_CONNECTION)
    match found := await tokens.token_for(operation, connection, now_s):
        case AccessToken():
            return Ready(with_token(request, found.token_type, found.value), found)
        case Waiting():
            return _held(Failure.TOKEN_IN_DOUBT, f"There is no valid token now: {found.reason}.", found.until_s - now_s)
        case ConfigError(held=False):
            return Unavailable(f"The connection {connection.name} cannot be used: {found.reason}.")
        case NeedsConsent() | ConfigError():
            message = f"The connection {connection.name} has no token: {found.reason}."
            return _held(Failure.TOKEN_NEEDS_CONSENT, message, LOOK_AGAIN_S)


def tell(
    tokens: TokenSource, sent: Ready, operation: Operation, connection: Connection | None, answer: Exchange | None
) -> None:
    """Say what became of a token that went out: others may wait for it. Silence, and None for a call that was given up, prove nothing."""
    if sent.token is not None and connection is not None:
        accepted = isinstance(answer, Answered) and not _refuses(answer)
        tokens.tried(operation, connection, sent.token.version, accepted=accepted)


async def refused_token(
    tokens: TokenSource, sent: Ready, operation: Operation, connection: Connection | None, answer: Answered
) -> Outcome | None:
    """Let a token that the vendor refused be replaced, once a version; None: the answer says nothing against the token.

    The vendor did nothing, and it is not the call's fault: it is tried again with another token and spends no attempt.
    """
    if sent.token is None or connection is None or not _refuses(answer):
        return None
    await tokens.report_401(operation, connection, sent.token.version)
    return Outcome(
        effect=Effect.NOT_EXECUTED,
        failure=Failure.TOKEN_IN_DOUBT,
        message="The vendor refused the token; another one is fetched.",
        status=answer.status,
        retry_after_s=0.0,
        spends_attempt=False,
        duration_ms=int(answer.duration_s * 1000),
        bytes_out=answer.bytes_out,
    )


def _refuses(answer: Answered) -> bool:
    return answer.status == 401 and not lacks_scope(answer.headers)


def _held(failure: Failure, message: str, wait_s: float) -> Outcome:
    return Outcome(
        effect=Effect.NOT_EXECUTED,
        failure=failure,
        message=message,
        retry_after_s=max(0.0, wait_s),
        spends_attempt=False,
        held=True,
    )
