"""What use-cases will not do, whatever they are about: three situations, each with a sentence for whoever asked."""


class Unfit(ValueError):  # noqa: N818 - a request that makes no sense, not an error of ours
    """What was asked makes no sense; `pointer` says where."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(message)
        self.pointer = pointer


class Nowhere(LookupError):  # noqa: N818 - as above
    """There is no such thing; `pointer` says where it was named, if it was."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(message)
        self.pointer = pointer


class Conflict(ValueError):  # noqa: N818 - as above
    """Somebody was first, or it stands differently than this needs; the message says how."""
