"""The keys that seal what rests: AES-256-GCM under keys with ids, shared by all roles of an installation.

They come from `SLUICE_KEYS` or from one file that the first process to start makes. The first key seals, every key opens.
Never prints a key: errors name the file and the line, and what to do. Nonces are random, so a key is good for 2^32 seals.
"""

import binascii
import os
import re
import secrets
import stat
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FILE = "keys"
"""The name of the key file in `$SLUICE_DATA`."""

_KEY_BYTES = 32
_NONCE_BYTES = 12
_FILE_MOST = 65_536
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEEP = "do not delete it: what was sealed under its keys could not be opened again"


class KeyRingError(Exception):
    """The keys cannot be used; the text says which source is wrong and what to do, and holds no key."""


class UnsealError(Exception):
    """A sealed part does not open: it was changed, belongs elsewhere, or its key or blob is missing."""


class KeyRing:
    """Keys by id; the first is the newest. Holds ciphers, not key bytes, so that nothing here can print a key."""

    __slots__ = ("_ciphers", "newest")

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise KeyRingError("There is no key. Set SLUICE_KEYS to `id:base64` of 32 random bytes.")
        for key_id, key in keys.items():
            if not _ID.fullmatch(key_id) or len(key) != _KEY_BYTES:
                raise KeyRingError("A key needs an id of letters, digits, `.`, `_`, `-`, and 32 bytes.")
        self.newest = next(iter(keys))
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}

    def __repr__(self) -> str:
        return f"<KeyRing seals with {self.newest}, opens {', '.join(self._ciphers)}>"

    def __reduce__(self) -> str:
        raise TypeError("keys do not travel")

    @classmethod
    def load(cls, setting: str | None, data: Path) -> Self:
        """Take the keys of the setting, else of `data`/keys, which is made when it is missing."""
        if setting is not None:
            return cls(_parse(setting.split(","), "SLUICE_KEYS", "give it as `id:base64,…`, newest first"))
        path = data / FILE
        text = _read(path)
        if text is None:
            _make(path)
            text = _read(path)
        if text is None:
            raise KeyRingError(f"{path} disappeared while it was read; start again when nothing else changes it.")
        return cls(_parse(text.splitlines(), str(path), f"restore it from a backup; {_KEEP}"))

    def seal(self, plaintext: bytes, aad: bytes) -> tuple[str, bytes]:
        """Return the id of the newest key and nonce + ciphertext + tag under it."""
        nonce = os.urandom(_NONCE_BYTES)
        return self.newest, nonce + self._ciphers[self.newest].encrypt(nonce, plaintext, aad)

    def open(self, key_id: str, blob: bytes, aad: bytes) -> bytes:
        """Return the plaintext, or raise `UnsealError`."""
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise UnsealError("It was sealed under a key that is not on the ring; add that key to SLUICE_KEYS.")
        try:
            return cipher.decrypt(blob[:_NONCE_BYTES], blob[_NONCE_BYTES:], aad)
        except (InvalidTag, ValueError):
            raise UnsealError("It does not open: it was changed, or it belongs to another letter or field.") from None


def _parse(entries: list[str], source: str, remedy: str) -> dict[str, bytes]:
    keys: dict[str, bytes] = {}
    for number, entry in enumerate(entries, start=1):
        if not entry.strip():
            continue
        key_id, _, text = entry.strip().partition(":")
        key = _key(text)
        if key is None or not _ID.fullmatch(key_id) or key_id in keys:
            raise KeyRingError(
                f"{source}: entry {number} is not `id:base64 of 32 bytes` with an id of its own; {remedy}."
            )
        keys[key_id] = key
    if not keys:
        raise KeyRingError(f"{source} holds no key; {remedy}.")
    return keys


def _key(text: str) -> bytes | None:
    try:
        key = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == _KEY_BYTES else None


def _read(path: Path) -> str | None:
    """Return the file's text, or None when there is no file; refuse a file that others may read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyRingError(f"{path} cannot be read ({error.strerror}); give it to the user that runs Sluice.") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise KeyRingError(f"{path} is not a regular file; move it away or set SLUICE_KEYS.")
        if mode & 0o077:
            raise KeyRingError(
                f"{path} has mode {stat.S_IMODE(mode):04o}, others may use its keys: chmod 600 {path}"
                " (and change the keys if somebody may have read them)."
            )
        # Bytes that are not ASCII become a character that is in no key, so `_parse` names the line.
        return os.read(descriptor, _FILE_MOST).decode("ascii", "replace")
    finally:
        os.close(descriptor)


def _make(path: Path) -> None:
    """Make the file with one new key. It appears whole or not at all, and whoever comes second keeps the first one's."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    entry = f"k{secrets.token_hex(4)}:{b64encode(AESGCM.generate_key(_KEY_BYTES * 8)).decode()}\n"
    draft = path.with_name(f".{FILE}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(entry.encode())
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            # A link fails when the name is taken, as O_EXCL does, but never shows a file that is still empty.
            path.hardlink_to(draft)
        sync_directory(path.parent)
    except OSError as error:
        raise KeyRingError(
            f"{path} cannot be made ({error.strerror}); mend the directory or set SLUICE_KEYS."
        ) from None
    finally:
        draft.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable; without it a crash may forget a file whose bytes are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
