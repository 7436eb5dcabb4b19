"""A secret as a manifest may name it: where it is kept, never what it is.

Parsing only; `connectors.secret` looks the value up. A literal is refused without being repeated.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

_REFERENCE = re.compile(
    r"\$\{(?:env:(?P<env>[A-Za-z_][A-Za-z0-9_]*)|file:(?P<file>/[^\x00-\x1f{}]+)|keyring:(?P<keyring>[^/\s{}]+/[^\s{}]+))\}",
    re.ASCII,
)
_FORMS = "${env:NAME}, ${file:/path} or ${keyring:service/user}"


class Store(StrEnum):
    ENV = "env"
    FILE = "file"
    KEYRING = "keyring"


@dataclass(frozen=True, slots=True)
class Reference:
    store: Store
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        found = _REFERENCE.fullmatch(text)
        if found is not None and found.lastgroup is not None:
            return cls(Store(found.lastgroup), found[found.lastgroup])
        if text.startswith("${"):
            raise ValueError(f"is not a secret reference; write {_FORMS}")
        raise ValueError(f"a secret must not stand here in clear; write {_FORMS}")

    def __str__(self) -> str:
        return f"${{{self.store}:{self.name}}}"


def _parse(value: Any) -> Reference:
    return value if isinstance(value, Reference) else Reference.parse(value if isinstance(value, str) else "")


SecretReference = Annotated[
    Reference,
    PlainValidator(_parse),
    PlainSerializer(str),
    WithJsonSchema(
        {"type": "string", "pattern": r"^\$\{(env|file|keyring):[^{}]+\}$", "examples": ["${env:CRM_TOKEN}"]}
    ),
]
