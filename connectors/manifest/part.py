"""What every part of a manifest is made of: the strict base and the words that several parts share."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict


def matching(pattern: str, sentence: str) -> Any:
    """Return a check of a text against a pattern; `sentence` says what is wrong."""
    compiled = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise ValueError(sentence)
        return text

    return AfterValidator(check)


LimitName = Annotated[str, matching(r"[A-Za-z0-9_-]{1,64}", "must be letters, digits, - and _")]
HeaderName = Annotated[str, matching(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}", "is not a header name")]
Pointer = Annotated[str, matching(r"(/([^~]|~[01])*)?", "must be a JSON pointer such as /usage/total_tokens")]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True)
