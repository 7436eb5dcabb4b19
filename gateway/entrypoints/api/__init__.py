"""The HTTP door: the same intake as the bus, and a look at what became of a call. Decides nothing that intake does not decide."""

from gateway.entrypoints.api import asyncapi
from gateway.entrypoints.api.app import build
from gateway.entrypoints.api.parts import ApiParts, Check

__all__ = ["ApiParts", "Check", "asyncapi", "build"]
