"""Storey 1: everything that touches a vendor."""
