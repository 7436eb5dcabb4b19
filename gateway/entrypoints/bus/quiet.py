"""The log of the library that reads a bus."""

import logging


def quiet() -> logging.Logger:
    """Keep FastStream's per-message lines out of our log; its errors still appear."""
    logger = logging.getLogger("sluice.bus")
    logger.setLevel(logging.ERROR)
    return logger
