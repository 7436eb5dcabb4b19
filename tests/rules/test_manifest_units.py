"""Durations, rates and percentages mean what they say, and nothing else is accepted."""

import pytest

from connectors.manifest.units import Duration, Percentage, Rate


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("10s", 10), ("1.5s", 1.5), ("5m", 300), ("24h", 86_400), ("30d", 2_592_000)]
)
def test_a_duration_is_seconds_and_keeps_its_text(text: str, seconds: float) -> None:
    assert Duration.parse(text).seconds == pytest.approx(seconds)
    assert str(Duration.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "count", "window_s"), [("10/s", 10, 1), ("80/min", 80, 60), ("5000/h", 5000, 3600), ("9/d", 9, 86_400)]
)
def test_a_rate_is_a_count_per_window(text: str, count: int, window_s: float) -> None:
    assert (Rate.parse(text).count, Rate.parse(text).window_s) == (count, window_s)


@pytest.mark.parametrize(("text", "fraction"), [("50%", 0.5), ("0.5%", 0.005), ("100%", 1.0)])
def test_a_percentage_is_a_fraction(text: str, fraction: float) -> None:
    assert Percentage.parse(text).fraction == pytest.approx(fraction)


@pytest.mark.parametrize(
    "text", ["", "10", "10 s", "-1s", "0s", "0.0h", "1w", "1e3s", "\u0661s", "1s\n", "9999999999s"]
)
def test_no_other_text_is_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        Duration.parse(text)


@pytest.mark.parametrize("text", ["", "10", "0/s", "10/m", "1.5/s", "10/ s", "10/s/s"])
def test_no_other_text_is_a_rate(text: str) -> None:
    with pytest.raises(ValueError, match="must be a rate"):
        Rate.parse(text)


@pytest.mark.parametrize("text", ["", "50", "0%", "101%", "-1%", "0.5"])
def test_no_other_text_is_a_percentage(text: str) -> None:
    with pytest.raises(ValueError, match="must be a percentage"):
        Percentage.parse(text)
