"""Storey 2: the flow. Events come in, wait in lanes, are called at the vendor, and end in exactly one state."""
