"""What a call finds when it asks for a token: one that may be used now, or why there is none and until when."""

from dataclasses import dataclass

from connectors.auth.token_store import AccessToken


@dataclass(frozen=True, slots=True)
class Waiting:
    """No token now, perhaps one at this time (epoch seconds)."""

    until_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class NeedsConsent:
    """No token until a person consents."""

    reason: str


@dataclass(frozen=True, slots=True)
class ConfigError:
    """No token until the connection is mended."""

    reason: str
    held: bool = True
    """Whether its calls wait for that at a closed gate; not where what is declared has never been complete."""


Found = AccessToken | Waiting | NeedsConsent | ConfigError
