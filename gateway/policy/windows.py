"""How long a vendor remembers our key. Pure."""

from connectors.declared import Operation
from schemas.effect import OperationClass


def window_open(operation: Operation | None, first_us: int, at_us: int) -> bool:
    """Tell whether the vendor will still know our key; the clock started with the first attempt, 0: there was none."""
    if operation is None or operation.op_class is not OperationClass.KEYED or operation.idempotency_window_s is None:
        return True
    # The attempt itself takes time, and the vendor's clock is not ours: its timeout is kept as a margin.
    closes_us = first_us + int((operation.idempotency_window_s - operation.timeout_s) * 1_000_000)
    return first_us == 0 or at_us < closes_us
