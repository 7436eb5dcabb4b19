"""Benchmarks: ratios within one run, on a server of their own. `./dev bench NAME` runs one, `./dev bench` all."""
