"""The use-cases: intake, delivery, status. They know ports, never a client library."""
