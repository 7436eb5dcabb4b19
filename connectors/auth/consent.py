"""The address a person consents at, and the proof that who asked is who redeems (RFC 6749 §4.1, RFC 7636, RFC 8252 §7.3). Pure."""

import base64
import hashlib
import re
from urllib.parse import urlencode

from connectors.auth.refresher import endpoint
from connectors.declared import Connection, Operation

_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|\[::1\]):[0-9]{1,5}/[a-z]*")


class NoConsentError(ValueError):
    """Nobody can consent here; the text says why, and what to do instead."""


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a verifier."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).decode().rstrip("=")


def consent_url(operation: Operation, connection: Connection, *, redirect_uri: str, state: str, challenge: str) -> str:
    """Return where to send a person's browser, which then comes back to `redirect_uri` on the loopback; raises `NoConsentError`."""
    oauth2 = operation.auth.oauth2
    if oauth2 is None or oauth2.authorize_url is None:
        raise NoConsentError(f"connector {operation.connector} declares no auth.authorize_url; sluice connections set")
    if not _LOOPBACK.fullmatch(redirect_uri):
        raise NoConsentError("the way back must be an address on the loopback: http://127.0.0.1:PORT/")
    client_id = connection.secrets.get("client_id")
    if client_id is None:
        raise NoConsentError(f"the connection {connection.name} lacks its secret client_id")
    asked = {
        "response_type": "code",
        "client_id": client_id.reveal(),
        "redirect_uri": redirect_uri,
        "state": state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        **({"scope": " ".join(oauth2.scopes)} if oauth2.scopes else {}),
    }
    url = endpoint(oauth2.authorize_url, connection.base_url or operation.base_url)
    return f"{url}{'&' if '?' in url else '?'}{urlencode(asked)}"
