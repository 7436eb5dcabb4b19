"""The vendor's business: contacts, messages, orders. Pure; what it is asked it does at once and says what it did.

It honours idempotency keys on contacts as a good vendor does: the first answer is kept and given again.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tests.vendor.record import Bounded

THINGS_KEPT = 200_000
"""Contacts, keys, messages and orders that are kept of each; a key that is forgotten is past its window."""

MAX_BIG = 2**30
UNKNOWN = "unknown"

EXACT: Mapping[tuple[str, str], str] = {
    ("POST", "/v1/contacts"): "contacts.create",
    ("POST", "/v1/messages"): "messages.send",
    ("GET", "/v1/messages"): "messages.list",
    ("POST", "/v1/orders"): "orders.create",
    ("GET", "/v1/orders"): "orders.list",
    ("GET", "/v1/big"): "big",
    ("GET", "/v1/echo"): "echo",
    ("POST", "/v1/echo"): "echo",
    ("POST", "/oauth/token"): "token",
    ("GET", "/oauth/authorize"): "consent",
    ("POST", "/v1/chat/completions"): "chat.complete",
    ("POST", "/openai/v1/chat/completions"): "chat.complete",
}
ONE_MODEL = ("/v1/models/", "/openai/v1/models/")
ONE_CONTACT = "/v1/contacts/"
BY_ID: Mapping[str, str] = {"GET": "contacts.get", "PUT": "contacts.update"}
OPERATIONS = frozenset({*EXACT.values(), *BY_ID.values(), "models.get", UNKNOWN})


def operation_of(method: str, path: str) -> str:
    exact = EXACT.get((method, path))
    if exact is not None:
        return exact
    if method == "GET" and path.startswith(ONE_MODEL):
        return "models.get"
    rest = path.removeprefix(ONE_CONTACT)
    return BY_ID.get(method, UNKNOWN) if rest not in {path, ""} and "/" not in rest else UNKNOWN


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One request as the business sees it."""

    operation: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    key: str | None
    body_sha256: str
    data: dict[str, Any]
    """What came in JSON: always an object, empty for anything else."""

    @property
    def ref(self) -> str | None:
        """Say which logical operation this is: `ref`, for a contact its email, for a completion its user."""
        ref = self.data.get("ref", self.data.get("email", self.data.get("user")))
        return ref if isinstance(ref, str) else None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What to say, and the key of the effect if one happened just now."""

    status: int
    body: Any
    effect: str | None = None
    pad_to: int = 0


class Shop:
    """The state of the vendor's world."""

    def __init__(self) -> None:
        self._made = 0
        self._contacts: Bounded[dict[str, Any]] = Bounded(THINGS_KEPT)
        self._answers: Bounded[tuple[str, Answer]] = Bounded(THINGS_KEPT)
        self._messages: Bounded[list[dict[str, Any]]] = Bounded(THINGS_KEPT)
        self._orders: Bounded[list[dict[str, Any]]] = Bounded(THINGS_KEPT)
        self._verbs: Mapping[str, Callable[[Ask], Answer]] = {
            "contacts.create": self._create_contact,
            "contacts.get": self._get_contact,
            "contacts.update": self._update_contact,
            "messages.send": lambda ask: self._add(ask, self._messages, "m"),
            "messages.list": lambda ask: _list(ask, self._messages),
            "orders.create": lambda ask: self._add(ask, self._orders, "o"),
            "orders.list": lambda ask: _list(ask, self._orders),
            "chat.complete": self._complete,
            "models.get": _model,
            "big": _big,
            "echo": _echo,
        }

    def perform(self, ask: Ask) -> Answer:
        verb = self._verbs.get(ask.operation)
        return verb(ask) if verb else _refusal(404, "no_such_resource")

    def _create_contact(self, ask: Ask) -> Answer:
        email = ask.data.get("email")
        if not isinstance(email, str):
            return _refusal(400, "email_missing")
        if not ask.key:
            return _refusal(400, "idempotency_key_missing")
        known = self._answers.get(ask.key)
        if known is not None:
            return known[1] if known[0] == ask.body_sha256 else _refusal(422, "idempotency_key_reused")
        contact = {**ask.data, "id": self._new_id("c")}
        self._contacts[contact["id"]] = contact
        self._answers[ask.key] = (ask.body_sha256, Answer(status=201, body=contact))
        return Answer(status=201, body=contact, effect=ask.key)

    def _get_contact(self, ask: Ask) -> Answer:
        identity = ask.path.removeprefix(ONE_CONTACT)
        if identity.startswith("missing"):
            return _refusal(404, "no_such_contact")
        # Any other id exists, so that a reader needs no writer before it.
        invented = {"id": identity, "email": f"{identity}@example.com"}
        return Answer(status=200, body=self._contacts.get(identity, invented))

    def _update_contact(self, ask: Ask) -> Answer:
        identity = ask.path.removeprefix(ONE_CONTACT)
        contact = {**ask.data, "id": identity}
        changed = self._contacts.get(identity) != contact
        self._contacts[identity] = contact
        # The same PUT twice changes nothing the second time; a stale one that comes back late does.
        return Answer(status=200, body=contact, effect=f"{identity}@{ask.body_sha256[:12]}" if changed else None)

    def _add(self, ask: Ask, shelf: Bounded[list[dict[str, Any]]], prefix: str) -> Answer:
        ref = ask.ref
        if ref is None:
            return _refusal(400, "ref_missing")
        item = {**ask.data, "id": self._new_id(prefix)}
        shelf[ref] = [*shelf.get(ref, ()), item]
        return Answer(status=201, body=item, effect=ref)

    def _complete(self, ask: Ask) -> Answer:
        messages = ask.data.get("messages")
        if not isinstance(messages, list) or not messages:
            return _refusal(400, "messages_missing")
        said = f"You said: {messages[-1].get('content')}"
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        completion = {
            "id": self._new_id("chat"),
            "object": "chat.completion",
            "created": 1_795_000_000,
            "model": ask.data.get("model", ""),
            "choices": [choice],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
        }
        return Answer(status=200, body=completion, effect=ask.ref or completion["id"])

    def _new_id(self, prefix: str) -> str:
        self._made += 1
        return f"{prefix}-{self._made}"


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _list(ask: Ask, shelf: Bounded[list[dict[str, Any]]]) -> Answer:
    return Answer(status=200, body={"items": shelf.get(ask.query.get("ref", ""), [])})


def _big(ask: Ask) -> Answer:
    wanted = ask.query.get("bytes", "")
    if not wanted.isdecimal() or int(wanted) > MAX_BIG:
        return _refusal(400, "bytes_out_of_range")
    return Answer(status=200, body={"data": ""}, pad_to=int(wanted))


def _model(ask: Ask) -> Answer:
    identity = ask.path.rpartition("/")[2]
    if identity.startswith("missing"):
        return _refusal(404, "model_not_found")
    model = {"id": identity, "object": "model", "created": 1_795_000_000, "owned_by": "vendor"}
    return Answer(status=200, body=model)


def _echo(ask: Ask) -> Answer:
    return Answer(
        status=200,
        body={
            "method": ask.method,
            "path": ask.path,
            "query": dict(ask.query),
            "headers": {name.lower(): value for name, value in ask.headers.items()},
        },
    )


def _refusal(status: int, code: str) -> Answer:
    return Answer(status=status, body={"error": {"code": code}})
