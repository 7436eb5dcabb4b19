"""The bus: tool calls come in from a Redis stream or from Kafka, behind one port."""

from gateway.entrypoints.bus.port import Bus, BusAway, BusUnfit

__all__ = ["Bus", "BusAway", "BusUnfit"]
