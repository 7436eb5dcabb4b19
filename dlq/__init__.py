"""Storey 1: dead letters, from the last outcome to the sealed case file. Knows the vocabulary, never the connectors."""
