"""Text from elsewhere, as it may be shown: what moves a terminal's cursor, colours it, or turns reading around is written out.

A name or a message that a vendor or an agent chose must not be able to clear a screen, hide a line, or look like another one.
"""

import re

_UNSEEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls but tab and line feed; some terminals read those behind 0x80 as escapes
    "\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"  # reading order, separators, and what has no width
    "\ud800-\udfff"  # halves of characters, which no terminal can be sent
    "]"
)


def visible(text: str) -> str:
    """Return `text` with such characters as `\\u001b`; in JSON that is another spelling of the same text."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
