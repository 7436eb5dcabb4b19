"""The scripted vendor's connector with tokens, as somebody would declare it: secrets in files, one attempt a call.

With one attempt, a call that spent it on a refused token would end as a letter instead of completing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.vendor.client import manifest

SECRETS = {"client_id": "canary-client", "client_secret": "canary/secret+1", "refresh_token": "canary-refresh-0"}
AUTH = (
    "{{type: oauth2, grant: refresh_token, token_url: /oauth/token, authorize_url: /oauth/authorize, "
    "rotation: {rotation}}}"
)
WITHOUT_GRANT = ("client_id", "client_secret")
CLIENT = "{type: oauth2, grant: client_credentials, token_url: /oauth/token}"


def declared(
    url: str,
    folder: Path,
    *,
    auth: str = "",
    rotation: str = "strict",
    connections: Mapping[str, str] | None = None,
    names: Sequence[str] = tuple(SECRETS),
    lost: str = "",
) -> str:
    """Give the manifests; `connections` are the base_url of each by name, "" for the connector's own.

    The secrets of these `names` are declared, and of one that is `lost` there is no file.
    """
    (folder / "secrets").mkdir(exist_ok=True)
    text = manifest(url, auth=auth or AUTH.format(rotation=rotation)).replace("max_attempts: 5", "max_attempts: 1")
    for name in set(names) - {lost}:
        (folder / "secrets" / name).write_text(SECRETS[name])
    named = ", ".join(f'{name}: "${{file:{folder}/secrets/{name}}}"' for name in names)
    for name, base_url in (connections or {"main": ""}).items():
        text += f"\n---\napiVersion: sluice/v1\nkind: Connection\nmetadata: {{name: {name}, connector: crm}}\n"
        text += f"secrets: {{{named}}}\n" + (f"base_url: {base_url}\n" if base_url else "")
    return text
