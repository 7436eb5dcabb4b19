"""A PostgreSQL of a test's own, from Debian's binaries: a new cluster in a temporary directory, behind a unix socket, nobody else's."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ACCOUNT = "postgres"
"""Who runs the server where the tests run as root, which PostgreSQL refuses to be run as."""


def binaries() -> Path | None:
    """Return the directory of the newest PostgreSQL on this machine."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def missing() -> str | None:
    """Say why there can be no server here; None: there can."""
    if binaries() is None:
        return "PostgreSQL's binaries are missing (Debian: apt-get install -y postgresql)"
    if os.geteuid() == 0 and not _account():
        return f"PostgreSQL does not run as root, and there is no account {ACCOUNT}"
    return None


def _account() -> bool:
    try:
        pwd.getpwnam(ACCOUNT)
    except KeyError:
        return False
    return True


needs_postgres = pytest.mark.skipif(missing() is not None, reason=str(missing()))
"""Skips by name what cannot run here."""


@contextmanager
def running() -> Iterator[str]:
    """Run a server and give the URL of its database."""
    folder = Path(tempfile.mkdtemp(prefix="sluice-pg-", dir="/tmp"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, ACCOUNT)
        _run("initdb", "-D", str(folder / "data"), "-U", "sluice", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-k {folder} -c listen_addresses= -c fsync=off -c shared_buffers=32MB"
        _run("pg_ctl", "-D", str(folder / "data"), "-w", "-l", str(folder / "log"), "-o", options, "start")
        yield f"postgresql://sluice@/postgres?host={folder}"
        _run("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(program: str, *arguments: str) -> None:
    folder = binaries()
    assert folder is not None
    who = ACCOUNT if os.geteuid() == 0 else None
    done = subprocess.run(
        [str(folder / program), *arguments],
        user=who,
        cwd="/tmp",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
        stderr=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (program, done.stdout, done.stderr)
