"""Tables for people: on a narrow terminal sentences give way, and an id can still be copied into the next command."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.entrypoints.cli.output import too_many, widths
from gateway.policy.timeline import sentence

ID = "01JCW3H5N0000000000000000A"
WORDS = st.text("abcdef ", max_size=60)
TABLES = st.integers(1, 8).flatmap(
    lambda many: st.lists(st.lists(WORDS, min_size=many, max_size=many), min_size=1, max_size=5)
)


def test_an_id_stays_whole_and_the_sentence_beside_it_gives_way() -> None:
    columns = ("CALL", "TOOL", "ARGUMENTS")
    assert widths(columns, [[ID, "bank.refunds.pay", "a sentence " * 9]], 80) == [26, 16, None]


def test_where_all_fits_nothing_is_ruled() -> None:
    assert widths(("CALL", "TOOL"), [[ID, "bank.refunds.pay"]], 80) == [None, None]


def test_the_first_ids_come_first_where_not_all_have_room() -> None:
    assert widths(("A", "B", "C"), [[ID, ID, ID]], 72) == [26, 26, None]


@given(table=TABLES, most=st.integers(80, 200))
def test_what_is_ruled_leaves_room_for_the_rest(table: list[list[str]], most: int) -> None:
    columns = [f"C{number}" for number in range(len(table[0]))]
    found = widths(columns, table, most)
    cells = list(zip(columns, *table, strict=True))
    words = [max(len(word) for one in column for word in one.split() or [""]) for column in cells]
    ruled = [width for width in found if width is not None]
    rest = [min(8, word) for word, width in zip(words, found, strict=True) if width is None]
    assert not ruled or sum(ruled) + sum(rest) + 2 * (len(columns) - 1) <= most


LETTERS = {
    "LETTER": ["LETTER", ID],
    "STATUS": ["STATUS", "open"],
    "TOOL": ["TOOL", "mail.messages.send"],
    "ERROR": ["ERROR", "receive.reset"],
    "EFFECT": ["EFFECT", "not_executed"],
    "LAST": ["LAST", "2026-11-21 15:37:24Z"],
}


def test_what_matters_least_is_left_out_of_a_narrow_table_until_every_id_is_whole() -> None:
    assert too_many(LETTERS, ("LAST", "STATUS"), 120) == []
    assert too_many(LETTERS, ("LAST", "STATUS"), 90) == ["LAST"]
    assert too_many(LETTERS, ("LAST", "STATUS"), 80) == ["LAST", "STATUS"]
    left = {name: cells for name, cells in LETTERS.items() if name not in {"LAST", "STATUS"}}
    assert (
        None not in widths(list(left), [[cells[1] for cells in left.values()]], 80)
        or sum(max(map(len, cells)) for cells in left.values()) + 6 <= 80
    )


def test_a_sentence_gives_way_before_a_column_does() -> None:
    cells = {"CALL": [ID], "STATE": ["completed"], "TOLD": ["a sentence " * 9]}
    assert too_many(cells, ("STATE",), 80) == []
    assert too_many(cells, ("STATE",), 54) == ["STATE"]


def test_a_timeline_says_who_decided_and_why() -> None:
    told = sentence("tool.call.reviewed", {"decision": "denied", "by": "night-shift", "reason": "three zeros too many"})
    assert told == "Denied by night-shift: three zeros too many."
    assert (
        sentence("tool.call.reviewed", {"decision": "approved", "by": "night-shift", "reason": ""})
        == "Approved by night-shift."
    )
