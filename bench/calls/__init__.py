"""`./dev bench calls`: a call through Sluice with every guard on, beside a bare loop and beside what would be written by hand."""

from bench.calls.run import main

__all__ = ["main"]
