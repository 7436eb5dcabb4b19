"""What the documents of a whole set must be to each other: names, references between files, secrets that exist."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from connectors.manifest.checks import address_findings, mapping
from connectors.manifest.document import Document
from connectors.manifest.gather import Entry
from connectors.manifest.model import TOOL_SEPARATOR, secrets_of
from connectors.manifest.problem import Finding, Problem, Severity, quoted, suggestion
from connectors.manifest.secret_reference import Reference
from connectors.secret import MissingSecret, resolve

_Connectors = Mapping[str, dict[str, Any]]
_WILD = frozenset("*?")


def check_set(entries: Sequence[Entry], environ: Mapping[str, str]) -> Iterator[Problem]:
    """Yield the problems that no document shows on its own."""
    documents = [entry.document for entry in entries if isinstance(entry.document.tree, dict)]
    # Also what is broken counts as declared here: its own error is enough, references to it are not wrong.
    connectors = {_name(document): document.tree for document in documents if document.tree.get("kind") == "Connector"}
    connected = {mapping(document.tree, "metadata").get("connector") for document in documents}
    yield from _duplicates(documents)
    for document in documents:
        for finding in _references(document.tree, connectors, connected):
            yield document.problem(finding)
        for finding in _secrets(document.tree, environ):
            yield document.problem(finding)


def _name(document: Document) -> str:
    return str(mapping(document.tree, "metadata").get("name"))


def _duplicates(documents: Sequence[Document]) -> Iterator[Problem]:
    first: dict[tuple[str, ...], Document] = {}
    for document in documents:
        metadata = mapping(document.tree, "metadata")
        if not isinstance(metadata.get("name"), str):
            continue
        kind = str(document.tree.get("kind"))
        key = (kind, metadata["name"], str(metadata.get("connector", "")))
        if key not in first:
            first[key] = document
            continue
        at = first[key].position(("metadata", "name"))
        message = f"there is already a {kind} {quoted(metadata['name'])} at {first[key].file}:{at.line}"
        yield document.problem(Finding(path=("metadata", "name"), message=message))


def _references(tree: dict[str, Any], connectors: _Connectors, connected: set[Any]) -> Iterator[Finding]:
    match tree.get("kind"):
        case "Connector":
            auth, name = mapping(tree, "auth").get("type", "none"), mapping(tree, "metadata").get("name")
            if auth != "none" and name not in connected:
                message = (
                    f"connector {quoted(name)} needs credentials, but no Connection names it: its calls are rejected"
                )
                yield Finding(path=("auth",), at_key=True, message=message, severity=Severity.WARNING)
        case "Connection":
            yield from _connection(tree, connectors)
        case "Agent":
            allow = tree.get("allow")
            for index, pattern in enumerate(allow if isinstance(allow, list) else ()):
                if isinstance(pattern, str):
                    yield from _allow(pattern, index, connectors)
        case _:
            pass


def _connection(tree: dict[str, Any], connectors: _Connectors) -> Iterator[Finding]:
    name = mapping(tree, "metadata").get("connector")
    if not isinstance(name, str):
        return
    if name not in connectors:
        message = f"there is no connector {quoted(name)}"
        yield Finding(path=("metadata", "connector"), message=message, hint=suggestion(name, connectors))
        return
    yield from address_findings(tree.get("base_url"), connectors[name], ("base_url",))
    auth = mapping(connectors[name], "auth").get("type", "none")
    wanted = secrets_of(mapping(connectors[name], "auth"))
    if wanted is None:
        return
    needed, allowed = wanted
    secrets = mapping(tree, "secrets")
    for key in secrets:
        if key not in needed | allowed:
            message = f"unknown secret {quoted(key)} for auth {auth}"
            yield Finding(path=("secrets", key), at_key=True, message=message, hint=suggestion(key, needed | allowed))
    for key in sorted(needed - set(secrets)):
        message = f"auth {auth} of connector {quoted(name)} needs the secret {quoted(key)}"
        yield Finding(path=("secrets",), at_key=True, message=message)


def _allow(pattern: str, index: int, connectors: _Connectors) -> Iterator[Finding]:
    connector, _, operation = pattern.partition(TOOL_SEPARATOR)
    at = ("allow", index)
    if _WILD & set(connector):
        return
    if connector not in connectors:
        message = f"allow: there is no connector {quoted(connector)}"
        yield Finding(path=at, message=message, hint=suggestion(connector, connectors), severity=Severity.WARNING)
        return
    operations = mapping(connectors[connector], "operations")
    if not _WILD & set(operation) and operation not in operations:
        tools = [f"{connector}{TOOL_SEPARATOR}{name}" for name in operations]
        message = f"allow: there is no tool {quoted(pattern)}"
        yield Finding(path=at, message=message, hint=suggestion(pattern, tools), severity=Severity.WARNING)


def _secrets(tree: dict[str, Any], environ: Mapping[str, str]) -> Iterator[Finding]:
    named = [(("secrets", name), value) for name, value in mapping(tree, "secrets").items()]
    for path, value in [*named, (("key",), tree.get("key"))]:
        try:
            found = resolve(Reference.parse(value), environ) if isinstance(value, str) else None
        except ValueError:
            continue  # said by `shape`
        if isinstance(found, MissingSecret):
            yield Finding(path=path, message=f"the secret {found}", severity=Severity.WARNING)
