"""A recorded session as one SVG that plays by itself wherever images are shown, with no script, font or file beside it.

Rich draws the text; the window over it is ours: CSS moves the text up as it came, with long pauses cut and blocks held long
enough to be read. Where nothing moves (reduced motion, print) the end of the session stands still.
"""

import re
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.terminal_theme import MONOKAI

ROWS = 34
LINE_PX = 24.4
"""What Rich's export gives a line."""

TOGETHER_S = 0.05
"""Lines that come within this are one block."""

LONGEST_PAUSE_S = 1.5
READING_S = 0.3
"""So long at least a block stays for each of its lines."""

END_S = 15.0
MOST_BYTES = 200_000

DAY = re.compile(r"\b20\d\d-\d\d-\d\d\b")
A_DAY = "2026-11-20"
"""The day of a recording says nothing and ages badly: all are this one, which is as long."""

FRAME = f"""\
<svg viewBox="0 0 {{width}} {ROWS * LINE_PX + 20:.0f}" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="A recording of ./dev demo">
<style>
text {{{{ font: {{char_height}}px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre; }}}}
.roll {{{{ animation: roll @LASTS@ step-end infinite; transform: translateY(@ENDS@); }}}}
@media (prefers-reduced-motion: reduce) {{{{ .roll {{{{ animation: none; }}}} }}}}
@keyframes roll {{{{
@STEPS@
}}}}
{{styles}}
</style>
<clipPath id="window"><rect width="{{width}}" height="{ROWS * LINE_PX:.0f}"/></clipPath>
<rect fill="{{background}}" width="{{width}}" height="{ROWS * LINE_PX + 20:.0f}" rx="8"/>
<g transform="translate(10, 10)" clip-path="url(#window)"><g class="roll" xml:space="preserve">
{{backgrounds}}{{matrix}}
</g></g>
</svg>
""".replace("{background}", MONOKAI.background_color.hex)


class Watched:
    """A stream that notes when each line came."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.came: list[float] = []

    def write(self, text: str) -> int:
        self.came += [time.monotonic()] * text.count("\n")
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()


def save(console: Console, came: Sequence[float], path: Path) -> None:
    """Write what a recording console has shown, of which the lines came at these times."""
    drawn = console.export_svg(theme=MONOKAI, code_format=FRAME, unique_id="s", clear=False)
    steps, lasts_s = _steps(_blocks(came))
    drawn = (
        drawn.replace("@LASTS@", f"{lasts_s:.1f}s")
        .replace("@STEPS@", steps)
        .replace("@ENDS@", f"{_offset(len(came)):.1f}px")
    )
    # Lines need no window each, spaces can be spaces, and the ends of lines are no text.
    drawn = re.sub(r' clip-path="url\(#s-line-\d+\)"', "", drawn).replace("&#160;", " ")
    drawn = re.sub(r"<text [^>]*>\n</text>", "", drawn).replace("</text>", "</text>\n")
    drawn = DAY.sub(A_DAY, drawn)
    size = len(drawn.encode())
    if size > MOST_BYTES:
        message = f"the recording has {size} bytes; {MOST_BYTES} is the most"
        raise ValueError(message)
    path.write_text(drawn, encoding="utf-8")


def _blocks(came: Sequence[float]) -> list[tuple[int, float]]:
    """Return each block as the lines there are after it, and how long it stays."""
    ends = [number for number, (one, other) in enumerate(pairwise(came), 1) if other - one > TOGETHER_S]
    blocks, before = [], 0
    for end in ends:
        pause_s = min(came[end] - came[end - 1], LONGEST_PAUSE_S)
        blocks.append((end, max(pause_s, (end - before) * READING_S)))
        before = end
    return [*blocks, (len(came), END_S)]


def _steps(blocks: Sequence[tuple[int, float]]) -> tuple[str, float]:
    lasts_s = sum(stays_s for _, stays_s in blocks)
    steps, at_s = [], 0.0
    for lines, stays_s in blocks:
        steps.append(f"{at_s / lasts_s:.3%} {{ transform: translateY({_offset(lines):.1f}px); }}")
        at_s += stays_s
    return "\n".join(steps), lasts_s


def _offset(lines: int) -> float:
    """Return where the text stands when so many lines have come: the last at the foot of the window."""
    return (ROWS - lines) * LINE_PX
