"""The demo tells the truth about itself: a claim that does not hold is its failure, and its recording is of the scenes there are."""

import io
import re
from html import unescape
from types import SimpleNamespace
from typing import cast

import pytest
from rich.console import Console

from tests.demo import __main__ as demo
from tests.demo import recording
from tests.demo.scenes import SCENES, Scene
from tests.demo.stage import COLUMNS, Claim, Late, Stage, trimmed
from tests.vendor.client import ROOT

RECORDED = ROOT / "docs" / "demo.svg"


def stage() -> tuple[Stage, io.StringIO]:
    """A terminal, and nothing else."""
    said = io.StringIO()
    return cast("Stage", SimpleNamespace(console=Console(file=said, width=COLUMNS))), said


def told() -> str:
    """Return what the recording shows, line by line."""
    rows: dict[float, list[str]] = {}
    for y, text in re.findall(r'<text [^>]*y="([\d.]+)"[^>]*>(.*?)</text>', RECORDED.read_text("utf-8")):
        rows.setdefault(float(y), []).append(unescape(text))
    return "\n".join("".join(parts) for _, parts in sorted(rows.items()))


@pytest.mark.parametrize("kept", [True, False])
def test_a_scene_is_as_good_as_its_claims(kept: bool) -> None:  # noqa: FBT001 - a case of the table
    terminal, said = stage()
    claims = [Claim(said="one", counted="1", kept=True), Claim(said="two", counted="2", kept=kept)]
    assert demo.played(terminal, 1, Scene("A scene", "It hurts.", lambda _: claims)) is kept
    assert ("NO" in said.getvalue()) is not kept


def test_a_scene_that_comes_to_no_end_is_told_and_fails() -> None:
    def stuck(_: Stage) -> list[Claim]:
        raise Late("the worker: not within 40 s")

    terminal, said = stage()
    assert demo.played(terminal, 1, Scene("A scene", "It hurts.", stuck)) is False
    assert "the worker: not within 40 s" in said.getvalue()


def test_rows_that_nobody_asked_for_are_left_out_with_what_goes_on_from_them() -> None:
    lines = (
        Console().render_str("state  open\naction  look,\n        then say\nsummary  it is\n         not known").split()
    )
    assert [line.plain.strip() for line in trimmed(lines, ("state", "summary"), 9)] == [
        "state  open",
        "summary  it is",
        "not known",
    ]
    assert [line.plain.strip() for line in trimmed(lines, (), 2)] == ["state  open", "action  look,", "…"]


def test_the_recording_is_of_the_demo_there_is() -> None:
    shown = told()
    for number, scene in enumerate(SCENES, 1):
        assert f"{number} of {len(SCENES)}  {scene.title}" in shown, (
            "record it again: ./dev demo --record docs/demo.svg"
        )
        assert scene.sentence.split()[:8] == shown.partition(scene.title)[2].partition("\n")[2].split()[:8]
    assert "All claims hold" in shown


def test_the_recording_shows_nothing_of_the_machine_it_was_made_on() -> None:
    text = RECORDED.read_text("utf-8")
    assert len(text.encode()) < recording.MOST_BYTES
    assert set(recording.DAY.findall(text)) <= {recording.A_DAY}
    assert not re.findall(r"/(?:tmp|home|root|work|usr|var)/", told())
    assert not re.findall(r"https?://(?!www\.w3\.org|127\.0\.0\.1)", text)


def test_a_recording_holds_a_block_as_long_as_it_takes_to_read_and_cuts_a_pause_short() -> None:
    blocks = recording._blocks([0.0, 0.01, 0.02, 60.0, 60.01])
    assert [lines for lines, _ in blocks] == [3, 5]
    assert blocks[0][1] == pytest.approx(max(recording.LONGEST_PAUSE_S, 3 * recording.READING_S))
    steps, lasts_s = recording._steps(blocks)
    assert lasts_s == pytest.approx(blocks[0][1] + recording.END_S)
    assert steps.splitlines()[0].startswith("0.000% ")
