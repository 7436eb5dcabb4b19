"""The one door to Authlib: asks a token endpoint once, over our own wire, and hands back what came of it.

Authlib writes the request (RFC 6749, 7523, 7636); it neither keeps a token here nor puts one on a call. The wire is the vendors':
declared hosts, vetted addresses, no redirects, no proxies, bounded time and size. An error of the libraries may quote what was
sent, so none leaves this file.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote_plus

import httpx2
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc7523 import PrivateKeyJWT, private_key_jwt_sign
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from connectors.auth.grants import Denied, Granted, Verdict, judge
from connectors.declared import Connection, Egress, OAuth2
from connectors.egress import allowed
from connectors.exchange import Answered, Exchange, RenderedRequest, SendPolicy
from connectors.secret import Secret
from connectors.transport import Engine

CAP_BYTES: Final = 262_144
"""Of a token endpoint's answer; tokens are a few thousand bytes."""
ASSERTION_LIFE_S: Final = 240
"""Some servers accept no more than five minutes (Authlib's own are good for an hour)."""

_ALGORITHMS: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_OURS: Final = frozenset({"host", "content-length", "connection", "accept-encoding", "transfer-encoding", "user-agent"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who asks whom: one connection's client at its token endpoint."""

    oauth2: OAuth2
    token_url: str
    egress: Egress
    client_id: Secret
    secret: Secret | None
    """The client's secret, or its private key in PEM or as a JWK."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What came back from a person's consent (RFC 7636)."""

    code: Secret
    verifier: Secret
    redirect_uri: str


def client_of(oauth2: OAuth2, egress: Egress, connection: Connection, base_url: str) -> Client | str:
    """Join a declaration with a connection's secrets, or say which secret is missing."""
    kind = "private_key" if oauth2.client_auth == "private_key_jwt" else "client_secret"
    for name in ("client_id", kind):
        if name not in connection.secrets:
            missing = connection.missing.get(name)
            return f"its secret {name} is missing" + (f" ({missing})" if missing else "")
    return Client(
        oauth2=oauth2,
        token_url=endpoint(oauth2.token_url, base_url),
        egress=egress,
        client_id=connection.secrets["client_id"],
        secret=connection.secrets[kind],
    )


def endpoint(url: str, base_url: str) -> str:
    """Return an endpoint's address; one that starts with `/` is a path on the host of `base_url`."""
    if not url.startswith("/"):
        return url
    scheme, _, rest = base_url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}{url}"


class Refresher:
    """Asks token endpoints."""

    def __init__(self, engine: Engine, *, timeout_s: float) -> None:
        """`timeout_s` is the total of one request: less than half of the lease under which it is made."""
        self._engine = engine
        self._timeout_s = timeout_s

    async def fresh(self, client: Client, refresh: Secret | None, *, now_s: float) -> Granted | Denied:
        """Ask for a token, with the refresh token where there is one."""
        if refresh is None:
            scope = " ".join(client.oauth2.scopes) or None
            return await self._ask(
                client,
                now_s,
                lambda door: door.fetch_token(
                    client.token_url, grant_type="client_credentials", **({"scope": scope} if scope else {})
                ),
            )
        return await self._ask(
            client, now_s, lambda door: door.refresh_token(client.token_url, refresh_token=refresh.reveal())
        )

    async def redeem(self, client: Client, code: Code, *, now_s: float) -> Granted | Denied:
        """Ask for the first tokens with the code of a person's consent."""
        return await self._ask(
            client,
            now_s,
            lambda door: door.fetch_token(
                client.token_url,
                grant_type="authorization_code",
                code=code.code.reveal(),
                redirect_uri=code.redirect_uri,
                code_verifier=code.verifier.reveal(),
            ),
        )

    async def _ask(self, client: Client, now_s: float, asks: Callable[[Any], Any]) -> Granted | Denied:
        if refusal := allowed(client.token_url, client.egress):
            return Denied(Verdict.MISCONFIGURED, "the token endpoint may not be called: " + refusal.rstrip("."))
        wire = _Wire(self._engine, self._policy(client))
        try:
            # A client of its own for each request: Authlib's keeps the last token, and we keep ours elsewhere.
            async with AsyncOAuth2Client(
                client_id=client.client_id.reveal(),
                client_secret=client.secret.reveal() if client.secret else None,
                token_endpoint_auth_method=client.oauth2.client_auth,
                transport=wire,
                trust_env=False,
            ) as door:
                door.register_client_auth_method(("basic", _basic))
                door.register_client_auth_method(("post", _post))
                door.register_client_auth_method(_Assertion(client, int(now_s)))
                await asks(door)
        except Exception:  # noqa: BLE001 - what it says may hold the secret; what was answered is on the wire
            if wire.ending is None:
                return Denied(Verdict.MISCONFIGURED, _UNSENDABLE)
        if wire.ending is None:
            return Denied(Verdict.MISCONFIGURED, _UNSENDABLE)
        return judge(wire.ending, now_s=now_s)

    def _policy(self, client: Client) -> SendPolicy:
        return SendPolicy(
            timeout_s=self._timeout_s,
            allow_private=client.egress.allow_private,
            fresh=True,
            cap_wire_bytes=CAP_BYTES,
            cap_decoded_bytes=CAP_BYTES,
        )


_UNSENDABLE: Final = (
    "no request for a token can be made of the client's secrets; is the private key one, and of a kind we know?"
)


@dataclass(slots=True)
class _Wire(httpx2.AsyncBaseTransport):
    """Carries one request of the library over our engine, and keeps what is known of its end."""

    engine: Engine
    policy: SendPolicy
    ending: Exchange | None = field(default=None, repr=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it; raises for everything but an answer, as the library expects."""
        if self.ending is not None:
            raise httpx2.TransportError("one request is enough")
        headers = {name.lower(): value for name, value in request.headers.items() if name.lower() not in _OURS}
        body = await request.aread()
        self.ending = await self.engine.send(
            RenderedRequest(request.method, str(request.url), headers, body), self.policy
        )
        if not isinstance(self.ending, Answered):
            raise httpx2.TransportError("no answer")
        kind = self.ending.headers.get("content-type", "")
        return httpx2.Response(self.ending.status, headers={"content-type": kind}, content=self.ending.body)


_Parts = tuple[str, Mapping[str, str], Any]


def _basic(auth: ClientAuth, _: str, uri: str, headers: Any, body: Any) -> _Parts:
    """RFC 6749 §2.3.1: both halves are form-encoded first, which Authlib leaves out."""
    pair = f"{quote_plus(auth.client_id)}:{quote_plus(auth.client_secret or '')}"
    headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return uri, headers, body


def _post(auth: ClientAuth, _: str, uri: str, headers: Any, body: Any) -> _Parts:
    return uri, headers, _with(body, client_id=auth.client_id, client_secret=auth.client_secret or "")


def _with(body: bytes | str | None, **more: str) -> str:
    text = body.decode() if isinstance(body, bytes) else body or ""
    return "&".join([*([text] if text else []), *(f"{name}={quote_plus(value)}" for name, value in more.items())])


class _Assertion(PrivateKeyJWT):  # type: ignore[misc] # untyped
    """`private_key_jwt` with claims of its own each time: Authlib would repeat the `jti` of a dict it is given."""

    def __init__(self, client: Client, now_s: int) -> None:
        super().__init__(token_endpoint=client.oauth2.audience or client.token_url)
        self._key_id = client.oauth2.key_id
        self._now_s = now_s

    def sign(self, auth: ClientAuth, token_endpoint: str) -> str:
        """Sign one assertion."""
        key, algorithm = _key(auth.client_secret)
        header = {"alg": algorithm} | ({"kid": self._key_id} if self._key_id else {})
        signed: str = private_key_jwt_sign(
            key,
            client_id=auth.client_id,
            token_endpoint=token_endpoint,
            alg=algorithm,
            header=header,
            issued_at=self._now_s,
            expires_in=ASSERTION_LIFE_S,
        )
        return signed


def _key(text: str) -> tuple[RSAKey | ECKey | OKPKey, str]:
    """Read a private key; raises when it is of no kind that we know."""
    kinds: tuple[type[RSAKey | ECKey | OKPKey], ...] = (RSAKey, ECKey, OKPKey)
    for kind in kinds:
        try:
            key = kind.import_key(text)
        except (JoseError, ValueError, TypeError):
            continue
        if key.is_private:
            return key, _algorithm(key)
    raise ValueError("not a private key")


def _algorithm(key: RSAKey | ECKey | OKPKey) -> str:
    """RFC 7518 §3.1 and RFC 9864."""
    if isinstance(key, ECKey):
        return _ALGORITHMS[key.curve_name]
    return "RS256" if isinstance(key, RSAKey) else "EdDSA"
