"""The vendor's token endpoint: client credentials and refresh tokens, with rotation, and with an eye for tokens that come twice.

Pure but for the verification of signatures; times are the caller's. It counts what it is asked, since the count is the proof.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from tests.vendor.shop import Answer

OPERATION = "token"
CONSENT = "consent"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST_ASSERTION_S = 300


class DeskRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What POST /_vendor/desk takes: from then on tokens are issued by this rule, and everything issued before is forgotten."""

    lifetime: float = 3600.0
    told: str | float | None = "lifetime"
    """What `expires_in` says: `lifetime` the truth, None nothing at all, anything else itself."""
    rotation: Literal["none", "grace", "strict"] = "none"
    grace: float = 30.0
    """Seconds for which the token before the last is taken again."""
    client_id: str = "client"
    client_secret: str = "s3cret/with+signs"
    public_key: str = ""
    """Of `private_key_jwt`; PEM."""
    method: Literal["basic", "post", "private_key_jwt"] = "basic"
    audience: str | None = None
    refresh_token: str = "refresh-0"
    scope: str | None = None
    token_type: str = "Bearer"
    ends_old: bool = False
    """Whether a new access token ends the ones before it."""


class DeskCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The desk's books."""

    requests: int
    granted: dict[str, int]
    """By grant."""
    rotations: int
    repeats: int
    """An old refresh token within its time of grace."""
    reuses: int
    """An old refresh token out of time: the whole family has ended."""
    refused: dict[str, int]
    alive: bool
    refresh_token: str
    issued: list[str]
    """Every token that was ever given, for a search where none may be."""


class Refused(Exception):  # noqa: N818 - the word of the protocol
    pass


class Desk:
    """One authorization server with one client and one grant."""

    def __init__(self, rule: DeskRequest | None = None) -> None:
        self.rule = rule or DeskRequest()
        self.alive = True
        self._current = self.rule.refresh_token
        self._before: dict[str, float] = {}
        self._access: dict[str, float] = {}
        self._issued: list[str] = []
        self._assertions: set[str] = set()
        self._granted: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._requests = self._rotations = self._repeats = self._reuses = 0

    def perform(self, form: Mapping[str, str], headers: Mapping[str, str], url: str, now: float) -> Answer:
        """Answer one request for a token."""
        self._requests += 1
        try:
            self._identify(form, headers, url, now)
            return Answer(status=200, body=self._grant(form, now))
        except Refused as refused:
            error = str(refused)
            self._refused[error] += 1
            return Answer(status=401 if error == "invalid_client" else 400, body={"error": error})

    def back(self, query: Mapping[str, str]) -> str | None:
        """Return where somebody who consents is sent (RFC 6749 §4.1.2); None: the request is not one of this client's (RFC 8252 §7.3)."""
        way = query.get("redirect_uri", "")
        asked = (query.get("response_type"), query.get("client_id"), query.get("code_challenge_method"))
        if asked != ("code", self.rule.client_id, "S256") or urlsplit(way).hostname != "127.0.0.1":
            return None
        given = {"code": f"code-{query.get('code_challenge', '')}", "state": query.get("state", "")}
        return f"{way}?{urlencode(given)}"

    def knows(self, credential_sha256: str | None, now: float) -> bool:
        """Tell whether this is an access token that is good now."""
        return now < self._access.get(credential_sha256 or "", 0.0)

    def expire(self) -> None:
        """End every access token; the grant stays."""
        self._access.clear()

    def revoke(self) -> None:
        """End the grant and everything that came of it."""
        self.alive = False
        self._access.clear()

    def consent(self, refresh_token: str) -> None:
        """Begin a new grant: somebody has consented again."""
        self.alive, self._current, self._before = True, refresh_token, {}

    def counts(self) -> DeskCounts:
        return DeskCounts(
            requests=self._requests,
            granted=dict(self._granted),
            rotations=self._rotations,
            repeats=self._repeats,
            reuses=self._reuses,
            refused=dict(self._refused),
            alive=self.alive,
            refresh_token=self._current,
            issued=self._issued,
        )

    def _grant(self, form: Mapping[str, str], now: float) -> dict[str, Any]:
        grant = form.get("grant_type", "")
        match grant:
            case "client_credentials":
                refresh = None
            case "refresh_token":
                refresh = self._rotate(form.get("refresh_token", ""), now)
            case "authorization_code" if self._redeems(form):
                refresh = self._current
            case "authorization_code":
                raise Refused("invalid_grant")
            case _:
                raise Refused("unsupported_grant_type")
        self._granted[grant] += 1
        if self.rule.ends_old:
            self.expire()
        access = self._new("access")
        self._access[_sha256(access)] = now + self.rule.lifetime
        told = self.rule.lifetime if self.rule.told == "lifetime" else self.rule.told
        body = {"access_token": access, "token_type": self.rule.token_type}
        body |= {"refresh_token": refresh} if refresh and refresh != form.get("refresh_token") else {}
        return body | ({} if told is None else {"expires_in": told}) | _told(scope=self.rule.scope)

    def _rotate(self, given: str, now: float) -> str:
        if not self.alive:
            raise Refused("invalid_grant")
        if given == self._current:
            if self.rule.rotation != "none":
                self._before[given] = now
                self._current = self._new("refresh")
                self._rotations += 1
            return self._current
        if given not in self._before:
            raise Refused("invalid_grant")
        if self.rule.rotation == "grace" and now - self._before[given] <= self.rule.grace:
            self._repeats += 1
            return self._current
        self._reuses += 1
        self.revoke()
        raise Refused("invalid_grant")

    def _redeems(self, form: Mapping[str, str]) -> bool:
        """RFC 7636 §4.6: the code of the scripted consent is its own challenge."""
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        good = form.get("code") == f"code-{challenge}" and bool(form.get("redirect_uri"))
        if good:
            self.consent(self._new("refresh"))
        return good

    def _new(self, kind: str) -> str:
        token = f"{kind}-{len(self._issued) + 1}-{hashlib.sha256(f'{id(self)}{len(self._issued)}'.encode()).hexdigest()[:24]}"
        self._issued.append(token)
        return token

    def _identify(self, form: Mapping[str, str], headers: Mapping[str, str], url: str, now: float) -> None:
        rule = self.rule
        good = False
        match rule.method:
            case "basic":
                good = _pair(headers) == (rule.client_id, rule.client_secret)
            case "post":
                good = (form.get("client_id"), form.get("client_secret")) == (rule.client_id, rule.client_secret)
            case "private_key_jwt":
                good = self._signed(form, rule.audience or url, now)
        if not good:
            raise Refused("invalid_client")

    def _signed(self, form: Mapping[str, str], audience: str, now: float) -> bool:
        """RFC 7523 §3: signed by the client, for us, for a short time, and never seen before."""
        if form.get("client_assertion_type") != ASSERTION:
            return False
        given, now_s = form.get("client_assertion", ""), int(now)
        try:
            claims = jwt.decode(given, _public(self.rule.public_key), algorithms=["RS256", "ES256", "EdDSA"]).claims
        except (JoseError, ValueError):
            return False
        who = claims.get("iss") == claims.get("sub") == self.rule.client_id
        when = now_s < claims.get("exp", 0) <= now_s + LONGEST_ASSERTION_S
        new = claims.get("jti") not in self._assertions
        self._assertions.add(claims.get("jti", ""))
        return who and when and new and claims.get("aud") == audience


def _public(pem: str) -> RSAKey | ECKey:
    try:
        return RSAKey.import_key(pem)
    except (JoseError, ValueError):
        return ECKey.import_key(pem)


def form_of(body: bytes) -> dict[str, str]:
    """Read a form; what cannot be read is empty."""
    try:
        return dict(parse_qsl(body.decode("ascii")))
    except (UnicodeDecodeError, ValueError):
        return {}


def _pair(headers: Mapping[str, str]) -> tuple[str, str]:
    """RFC 6749 §2.3.1: both halves are form-encoded."""
    scheme, _, encoded = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    name, _, secret = base64.b64decode(encoded).decode().partition(":")
    return unquote_plus(name), unquote_plus(secret)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _told(**fields: str | None) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value is not None}
