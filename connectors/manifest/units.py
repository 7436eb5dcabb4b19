"""Durations, rates and percentages as they are written in manifests, parsed into frozen values.

Pure text in, value out. Each value keeps its own text, so that what is shown is what was written.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_WINDOWS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)", re.ASCII)
_RATE = re.compile(r"([0-9]{1,9})/(s|min|h|d)", re.ASCII)
_PERCENTAGE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%", re.ASCII)


@dataclass(frozen=True, slots=True)
class Duration:
    seconds: float
    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        found = _DURATION.fullmatch(text)
        if found is None or float(found[1]) == 0:
            raise ValueError("must be a duration above zero such as 250ms, 10s, 5m, 24h or 30d")
        return cls(float(found[1]) * _SECONDS[found[2]], text)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Rate:
    count: int
    window_s: float
    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        found = _RATE.fullmatch(text)
        if found is None or int(found[1]) == 0:
            raise ValueError("must be a rate above zero such as 10/s, 80/min, 5000/h or 100000/d")
        return cls(int(found[1]), _WINDOWS[found[2]], text)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Percentage:
    fraction: float
    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        found = _PERCENTAGE.fullmatch(text)
        if found is None or not 0 < float(found[1]) <= 100:
            raise ValueError("must be a percentage above 0% and up to 100%, such as 50%")
        return cls(float(found[1]) / 100, text)

    def __str__(self) -> str:
        return self.text


def _duration(value: Any) -> Duration:
    return value if isinstance(value, Duration) else Duration.parse(value if isinstance(value, str) else "")


def _rate(value: Any) -> Rate:
    return value if isinstance(value, Rate) else Rate.parse(value if isinstance(value, str) else "")


def _percentage(value: Any) -> Percentage:
    return value if isinstance(value, Percentage) else Percentage.parse(value if isinstance(value, str) else "")


def _written(pattern: re.Pattern[str], *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern.pattern}$", "examples": list(examples)})


DurationField = Annotated[
    Duration, PlainValidator(_duration), PlainSerializer(str), _written(_DURATION, "250ms", "10s", "5m", "24h", "30d")
]
RateField = Annotated[Rate, PlainValidator(_rate), PlainSerializer(str), _written(_RATE, "10/s", "80/min", "5000/h")]
PercentageField = Annotated[Percentage, PlainValidator(_percentage), PlainSerializer(str), _written(_PERCENTAGE, "50%")]
