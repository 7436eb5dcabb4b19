"""Tokens: got before they are needed, by one worker at a time, and kept before they are used."""
