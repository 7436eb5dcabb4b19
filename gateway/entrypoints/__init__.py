"""The doors: bus, HTTP, command line, worker loop."""
