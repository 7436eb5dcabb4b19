"""Secrets: a type that cannot be printed, and the look-up of a reference in its store.

The value leaves only through `reveal`, which is easy to search for. A secret that cannot be found is a value too:
one connection without its key must not keep the others from loading.
"""

import hmac
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, final

from connectors.manifest.secret_reference import Reference, Store

MAX_BYTES = 65_536
"""Largest secret file; keys and certificates are far smaller."""
_HIDDEN = "<secret>"


@final
class Secret:
    """A text that shows itself to nobody but the caller of `reveal`."""

    __slots__ = ("__text",)

    def __init__(self, text: str) -> None:
        self.__text = text

    def reveal(self) -> str:
        """Return the text; keep it for as short a time as possible."""
        return self.__text

    def matches(self, offered: str) -> bool:
        """Compare without telling by the time taken how much was right."""
        return hmac.compare_digest(self.__text.encode(), offered.encode("utf-8", "surrogatepass"))

    def __repr__(self) -> str:
        return _HIDDEN

    def __str__(self) -> str:
        return _HIDDEN

    def __format__(self, format_spec: str) -> str:
        return format(_HIDDEN, format_spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.matches(other.__text)

    __hash__ = None  # type: ignore[assignment] # a hash of it in a log would be a way to test guesses

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied")


@dataclass(frozen=True, slots=True)
class MissingSecret:
    """A reference that leads to nothing; calls that need it are refused with `token.config`."""

    reference: str
    reason: str

    def __str__(self) -> str:
        return f"{self.reference}: {self.reason}"


def resolve(reference: Reference, environ: Mapping[str, str]) -> Secret | MissingSecret:
    """Look a secret up; never raises."""
    found = _look_up(reference, environ)
    if isinstance(found, str):
        return MissingSecret(str(reference), found)
    # An empty key would be equal to an empty guess.
    return found if found.reveal() else MissingSecret(str(reference), "it is empty")


def _look_up(reference: Reference, environ: Mapping[str, str]) -> Secret | str:
    match reference.store:
        case Store.ENV:
            return _from_environment(reference.name, environ)
        case Store.FILE:
            return _from_file(Path(reference.name))
        case Store.KEYRING:
            return _from_keyring(*reference.name.split("/", 1))


def _from_environment(name: str, environ: Mapping[str, str]) -> Secret | str:
    return Secret(environ[name].strip()) if name in environ else f"the environment variable {name} is not set"


def _from_file(path: Path) -> Secret | str:
    try:
        if not path.is_file():
            return "there is no such file"
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    if len(raw) > MAX_BYTES:
        return f"the file is larger than {MAX_BYTES // 1024} KiB"
    try:
        return Secret(raw.decode("utf-8").strip())
    except UnicodeDecodeError:
        return "the file is not UTF-8 text"


def _from_keyring(service: str, user: str) -> Secret | str:
    try:
        keyring = importlib.import_module("keyring")
    except ImportError:
        return "the package `keyring` is not installed (pip install keyring)"
    try:
        text = keyring.get_password(service, user)
    except Exception as error:  # noqa: BLE001 - every backend raises what it likes
        return f"the keyring cannot be read: {type(error).__name__}"
    return Secret(text) if isinstance(text, str) else f"the keyring has no entry {service}/{user}"
