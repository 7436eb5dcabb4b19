"""Crash schedules in virtual time: the gateway's real parts on twins of Redis and the vendor, by a seed."""

from tests.simulation.summary import Summary, run

__all__ = ["Summary", "run"]
