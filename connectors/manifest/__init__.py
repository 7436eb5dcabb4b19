"""The manifest room: YAML documents in, typed models and findings with file, line and column out.

Reads text and judges it. It never resolves a secret, never opens a socket, and never guesses: what it does not know is an error.
"""
