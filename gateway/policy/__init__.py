"""Judgement without I/O: what to admit, what to do with an outcome, how long to wait."""
