"""The demo: one night of a gateway before your eyes, a crash and an outage in it."""
