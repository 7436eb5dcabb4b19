"""Who calls: reads the credential of a request and keeps nothing of it but a hash. Pure."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

import msgspec

SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie"})


class AuthType(StrEnum):
    NONE = "none"
    API_KEY = "api_key"
    BEARER = "bearer"
    BASIC = "basic"
    OAUTH2 = "oauth2"  # an access token that the vendor itself has issued and not ended


class AuthRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What POST /_vendor/auth takes; `secret` of basic is `username:password`."""

    type: AuthType
    secret: str = ""
    where: Literal["header", "query"] = msgspec.field(default="header", name="in")
    name: str = "X-Api-Key"


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """What every call must present from now on."""

    type: AuthType = AuthType.NONE
    where: Literal["header", "query"] = "header"
    name: str = "X-Api-Key"
    sha256: str = ""

    def met_by(self, credential_sha256: str | None) -> bool:
        return self.type is AuthType.NONE or credential_sha256 == self.sha256

    def challenge(self) -> str:
        """Name the scheme, as a 401 must."""
        return {AuthType.BASIC: 'Basic realm="vendor"', AuthType.BEARER: "Bearer", AuthType.OAUTH2: "Bearer"}.get(
            self.type, "ApiKey"
        )


def required(asked: AuthRequest) -> Requirement:
    return Requirement(type=asked.type, where=asked.where, name=asked.name, sha256=digest(asked.secret))


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def presented(requirement: Requirement, headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """Hash the credential that the request carries; with no requirement, whatever looks like one."""
    secret: str | None
    match requirement.type:
        case AuthType.API_KEY:
            secret = (headers if requirement.where == "header" else query).get(requirement.name)
        case AuthType.BEARER | AuthType.OAUTH2:
            secret = _after(headers, "bearer ")
        case AuthType.BASIC:
            secret = _pair(headers)
        case AuthType.NONE:
            secret = _after(headers, "bearer ") or _pair(headers) or headers.get(requirement.name)
    return None if secret is None else digest(secret)


def shown(requirement: Requirement, fields: Mapping[str, str]) -> dict[str, str]:
    """Copy headers or query for an echo, with a hash in place of every credential."""
    secret = {*SECRET_HEADERS, requirement.name.lower()}
    return {name: f"sha256:{digest(value)}" if name.lower() in secret else value for name, value in fields.items()}


def _after(headers: Mapping[str, str], scheme: str) -> str | None:
    value = headers.get("Authorization", "")
    return value[len(scheme) :] if value.lower().startswith(scheme) else None


def _pair(headers: Mapping[str, str]) -> str | None:
    encoded = _after(headers, "basic ")
    if encoded is None:
        return None
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return encoded
