"""What a use-case will not do, answered as a problem: the same way for every resource."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.entrypoints.api.problems import FieldError, Kind, ProblemError, plain
from gateway.flow.refusals import Conflict, Nowhere, Unfit


@contextmanager
def told(look: str) -> Iterator[None]:
    """Answer what is unfit, nowhere or in conflict; `look` is the command that shows what there is."""
    try:
        yield
    except Unfit as error:
        raise ProblemError(plain(Kind.BAD_REQUEST, str(error), errors=_at(error))) from None
    except Nowhere as error:
        raise ProblemError(plain(Kind.NOT_FOUND, str(error), action=look, errors=_at(error))) from None
    except Conflict as error:
        raise ProblemError(plain(Kind.DECIDED, str(error), action=look)) from None


def _at(error: Unfit | Nowhere) -> list[FieldError]:
    return [FieldError(error.pointer, str(error))] if error.pointer else []
