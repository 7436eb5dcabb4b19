"""What is kept of a connection's credential, and the shared place that keeps it. The tokens themselves are sealed before they get there.

Every write is fenced: who began a refresh under an older fence, or read an older version, changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import msgspec

from connectors.auth.freshness import SHUT, TokenState
from connectors.secret import Secret

TENANT = "default"

Seal = Callable[[bytes, bytes], tuple[str, bytes]]
"""Plaintext and associated data to the key's id and what may rest."""
Unseal = Callable[[str, bytes, bytes], bytes]
"""The way back; raises when it was changed, moved or its key is gone."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What goes on a request."""

    value: Secret
    version: int
    """Rises with each new one; a 401 is reported with the version it was got with."""
    token_type: str = "Bearer"  # noqa: S105 - a scheme


@dataclass(frozen=True, slots=True)
class Tokens:
    """The secret half of a credential."""

    access: Secret | None
    refresh: Secret | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One credential as the store has it; `…_us` are of the store's clock, 0 is "not told" or "not so"."""

    now_us: int
    state: TokenState = TokenState.ACTIVE
    version: int = 0
    """0: no token was ever kept."""
    fence: int = 0
    sealed: bytes = field(default=b"", repr=False)
    key_id: str = ""
    issued_us: int = 0
    expires_us: int = 0
    retry_us: int = 0
    """Until then the vendor is left alone."""
    lease_us: int = 0
    """Until then somebody else asks the vendor."""
    changed_us: int = 0
    failures: int = 0
    doubts: int = 0
    refusals: int = 0
    stale: bool = False
    """The vendor refused this version though it has not expired."""
    refused: bool = False
    """The vendor refused one version after another: nothing is sent until `retry_us`."""
    scope: str = ""
    detail: str = ""

    @property
    def life_s(self) -> float | None:
        return (self.expires_us - self.issued_us) / 1e6 if self.expires_us else None

    @property
    def left_s(self) -> float | None:
        return (self.expires_us - self.now_us) / 1e6 if self.expires_us else None

    @property
    def usable(self) -> bool:
        """Whether its access token may be sent, as far as the store knows."""
        alive = not self.expires_us or self.expires_us > self.now_us
        return bool(self.sealed) and alive and not (self.stale or self.refused or self.state in SHUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """The wish to ask the vendor for a new token; that it is under way is kept before the vendor is asked."""

    knows: int
    """The version that the caller has; another one in the store is news, and nothing begins."""
    holder: str
    lease_us: int
    tries_in_doubt: int
    """See `grants.TRIES_IN_DOUBT`."""
    spare: bool = False
    """With a doubt, do not try before the access token has ended: a repeat may end that too."""
    force: bool = False
    """A person wants it now, whatever the state."""


@dataclass(frozen=True, slots=True)
class Began:
    """What came of it; the record is always the newest."""

    answer: Literal["granted", "moved", "held", "waits", "spared", "shut"]
    kept: Kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """A sealed new version."""

    version: int
    sealed: bytes = field(default=b"", repr=False)
    """Empty: the tokens are forgotten."""
    key_id: str = ""
    issued_us: int = 0
    expires_us: int = 0
    scope: str = ""
    detail: str = ""
    stale: bool = False
    """There is no access token in it yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """Why there is no new version."""

    state: TokenState
    detail: str
    wait_us: int = 0
    tries_in_doubt: int = -1


class TokenStore(Protocol):
    """Shared by all processes; names are `connector|connection`."""

    async def read(self, name: str) -> Kept:
        """Look; a credential nobody knows has version 0."""

    async def begin(self, name: str, begin: Begin) -> Began:
        """Take the lease and write down that the vendor is about to be asked, in one step."""

    async def commit(self, name: str, fence: int, fresh: Fresh) -> bool:
        """Keep a new version, on the disk before this returns; false when the fence or the version before it is not the newest."""

    async def fail(self, name: str, fence: int, fall: Fall) -> bool:
        """Give the lease back without a new version; false as above."""

    async def refuse(
        self, name: str, version: int, *, wait_us: int, soon_us: int
    ) -> Literal["moved", "stale", "waits"]:
        """Note that the vendor's API refused a version; one that replaced a refused one less than `soon_us` ago waits `wait_us`."""

    async def put(self, name: str, fresh: Fresh, state: TokenState) -> bool:
        """Replace whatever is there, as a person wants it; false when the version before it is not the newest."""


class _Secrets(msgspec.Struct, frozen=True, array_like=True):
    access: str | None
    refresh: str | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Secrets).decode


def sealed(seal: Seal, name: str, version: int, tokens: Tokens) -> tuple[str, bytes]:
    """Seal tokens for one place only: what is moved to another row or version does not open there."""
    secrets = _Secrets(
        tokens.access.reveal() if tokens.access else None, tokens.refresh.reveal() if tokens.refresh else None
    )
    return seal(_encode(secrets), _place(name, version))


def unsealed(unseal: Unseal, name: str, kept: Kept) -> Tokens:
    """Open what is kept; raises what `unseal` raises."""
    if not kept.sealed:
        return Tokens(None, None)
    secrets = _decode(unseal(kept.key_id, kept.sealed, _place(name, kept.version)))
    return Tokens(
        Secret(secrets.access) if secrets.access else None, Secret(secrets.refresh) if secrets.refresh else None
    )


def _place(name: str, version: int) -> bytes:
    return f"{TENANT}|{name}|{version}".encode()
