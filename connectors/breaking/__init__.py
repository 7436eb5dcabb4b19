"""The circuit breaker: what counts against a vendor, when its origin is left alone, and how it is tried again."""
