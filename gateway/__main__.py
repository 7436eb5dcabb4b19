"""`python -m gateway` and the command `sluice`. Each role is imported when it runs, so that `--help` answers at once."""

import sys

from gateway.entrypoints import cli
from gateway.entrypoints.cli import Roles, lazily

ROLES = Roles(
    up=lazily("gateway.together", "up"),
    worker=lazily("gateway.roles", "worker"),
    api=lazily("gateway.roles", "serve"),
    journal=lazily("gateway.journal_role", "journal"),
)


def main() -> None:
    """Run the command line."""
    sys.exit(cli.run(ROLES))


if __name__ == "__main__":
    main()
