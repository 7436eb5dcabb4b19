"""Scopes: open on a laptop, closed by default as soon as one agent is declared."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.scope import agent_of, allowed, matches

law = settings(max_examples=50, deadline=None)
names = st.text("ab.*-/", min_size=1, max_size=6)
scopes = st.dictionaries(names, st.lists(names, max_size=3), max_size=3)


@law
@given(names, names)
def test_without_a_declared_agent_everything_is_allowed(agent: str, tool: str) -> None:
    assert allowed(agent, tool, {})


@law
@given(names, names, scopes.filter(bool))
def test_who_is_not_declared_may_nothing_once_somebody_is(
    agent: str, tool: str, declared: dict[str, list[str]]
) -> None:
    declared.pop(agent, None)
    if declared:
        assert not allowed(agent, tool, declared)


@law
@given(names, names, scopes, names)
def test_a_wider_scope_takes_nothing_away(agent: str, tool: str, declared: dict[str, list[str]], pattern: str) -> None:
    narrow = {agent: [], **declared}
    wide = {**narrow, agent: [*narrow[agent], pattern]}
    assert allowed(agent, tool, wide) >= allowed(agent, tool, narrow)


@pytest.mark.parametrize(
    ("pattern", "covered", "beyond"),
    [
        ("crm.contacts.create", "crm.contacts.create", "crm.contacts.create2"),
        ("crm.*", "crm.contacts.create", "crm"),
        ("crm.contacts.*", "crm.contacts.get", "crm.contactsx.get"),
        ("*.get", "crm.contacts.get", "crm.contacts.gets"),
        ("crm.contacts.*", "crm.contacts.get", "CRM.contacts.get"),
        ("crm.contacts.?et", "crm.contacts.get", "crm.contacts.forget"),
        ("*", "anything", ""),
    ],
)
def test_a_pattern_covers_whole_names_and_minds_the_case(pattern: str, covered: str, beyond: str) -> None:
    assert matches(covered, [pattern])
    assert not matches(beyond, [pattern] if beyond else [])


@pytest.mark.parametrize(
    ("source", "agent"),
    [
        ("agent/research-7", "research-7"),
        ("agent/agent/x", "agent/x"),
        ("/service", "/service"),
        ("Agent/x", "Agent/x"),
    ],
)
def test_an_agent_is_what_follows_its_prefix_in_the_source(source: str, agent: str) -> None:
    assert agent_of(source) == agent
