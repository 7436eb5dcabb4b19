"""Ties a child process to its parent, so that nothing of ours goes on alone after a `kill -9`. Knows nothing of what the child does."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def bind_to(parent: int) -> Callable[[], None]:
    """Return what a child does between fork and exec: its own process group, and SIGTERM when `parent` dies (Linux)."""

    def bind() -> None:
        # Ctrl-C reaches every process of the terminal's group; only the parent may hear it, which stops the others in order.
        # (Blocking SIGINT would keep them in the group, but uvloop clears the signal mask after this.)
        os.setpgid(0, 0)
        if _libc is not None:
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # the parent died before the kernel knew whom to watch
                os._exit(1)

    return bind
