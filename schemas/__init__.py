"""Storey 0: the vocabulary. Frozen structs, enums and tables; imports nothing of ours and does no I/O."""
