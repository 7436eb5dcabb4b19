"""The lanes: one verb a Lua script, and the Python that speaks to them."""
