"""The journal's migrations, inside the wheel: the journal's own process brings its database to the newest one."""
