"""The scripted upstream: a real HTTP server in its own process that counts at arrival and can misbehave on demand.

It is the oracle of tests, demo and benchmarks, so it knows nothing of Sluice and imports nothing of it.
"""
