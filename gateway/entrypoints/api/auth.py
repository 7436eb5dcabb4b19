"""Who is asking: a key against the declared Agents and Operators. Decides who sees and who changes; what may be called is intake's."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from connectors.catalog import Catalog
from connectors.secret import Secret
from gateway.entrypoints.api.parts import parts_of
from gateway.entrypoints.api.problems import Problem, ProblemError, refused
from gateway.policy import scope
from schemas.failure import Failure

ANONYMOUS = "anonymous"
"""The agent of a gateway that declares nobody: a laptop."""

_CHANGERS = frozenset({"operator", "admin"})
"""Roles that may publish and cancel; the others only read."""


_APPROVERS = frozenset({"approver", "admin"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who holds the key, and what that allows."""

    agent: str
    sees_all: bool
    """An Agent sees its own calls only."""
    may_change: bool
    may_approve: bool = False

    def sees(self, agent: str | None) -> bool:
        """Tell whether a call of `agent` is shown to this caller."""
        return self.sees_all or self.agent == agent


def identify(catalog: Catalog, authorization: str | None) -> Caller:
    """Return the caller, or raise a 401 problem."""
    if not catalog.agents and not catalog.operators:
        return Caller(agent=ANONYMOUS, sees_all=True, may_change=True, may_approve=True)
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise ProblemError(
            refused(Failure.INGEST_AUTH, "send the key of an Agent or Operator: Authorization: Bearer <key>")
        )
    # Every key is compared, each in constant time: how long it takes says nothing about whose it nearly was.
    found = [caller for secret, caller in _known(catalog) if secret.matches(key.strip())]
    if not found:
        raise ProblemError(refused(Failure.INGEST_AUTH, "no Agent or Operator has this key"))
    return found[0]


def _known(catalog: Catalog) -> Iterator[tuple[Secret, Caller]]:
    for operator in catalog.operators.values():
        if operator.key is not None:
            may_change = not _CHANGERS.isdisjoint(operator.roles)
            may_approve = not _APPROVERS.isdisjoint(operator.roles)
            yield (
                operator.key,
                Caller(agent=operator.name, sees_all=True, may_change=may_change, may_approve=may_approve),
            )
    for agent in catalog.agents.values():
        if agent.key is not None:
            yield agent.key, Caller(agent=agent.name, sees_all=False, may_change=True)


Connection = ASGIConnection[Any, Any, Any, Any]


async def known(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard: lets in who is known; runs before the body is read."""
    catalog = parts_of(connection).catalog()
    connection.state.caller = identify(catalog, connection.headers.get("authorization"))


async def may_change(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard behind `known`: keeps out who may only read."""
    caller = caller_of(connection)
    if not caller.may_change:
        message = f'"{caller.agent}" may read, but not publish or cancel: that needs the role operator or admin'
        raise ProblemError(needs_role(message))


async def may_operate(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard behind `known`: keeps out Agents, and Operators who may only read; what it guards is about everybody's calls."""
    caller = caller_of(connection)
    if not (caller.sees_all and caller.may_change):
        message = f'"{caller.agent}" may not steer lanes, breakers or contracts: that needs an Operator with the role operator or admin'
        raise ProblemError(needs_role(message))


async def may_see_all(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard behind `known`: keeps out Agents."""
    caller = caller_of(connection)
    if not caller.sees_all:
        raise ProblemError(needs_role(f'"{caller.agent}" may not look at what is everybody\'s', "viewer"))


async def may_approve(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard behind `known`: lets in who may decide about other people's calls."""
    caller = caller_of(connection)
    if not caller.may_approve:
        raise ProblemError(needs_role(f'"{caller.agent}" may not approve or deny', "approver or admin"))


def needs_role(message: str, role: str = "operator or admin") -> Problem:
    """Answer who may not do what he wants."""
    problem = refused(Failure.INGEST_SCOPE, message)
    return msgspec.structs.replace(problem, action=f"Use the key of an Operator with the role {role}.")


def caller_of(connection: Connection) -> Caller:
    """Return whom `known` let in."""
    caller: Caller = connection.state.caller
    return caller


def tools_seen(connection: Connection) -> Callable[[str], bool]:
    """Return which tools the caller may know of: an Agent those it may call."""
    caller, catalog = caller_of(connection), parts_of(connection).catalog()
    if caller.sees_all:
        return lambda _: True
    scopes = {name: agent.allow for name, agent in catalog.agents.items()}
    return lambda tool: scope.allowed(caller.agent, tool, scopes)
