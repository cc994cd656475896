# SPDX-License-Identifier: GPL-3.0-or-later
"""Running pgBackRest and PostgreSQL's programs, as the user who owns the data."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from typing import IO, TYPE_CHECKING, Final

from pgherd_backup.errors import BackupError, ProgramError

if TYPE_CHECKING:
    from collections.abc import Sequence

OWNER: Final = "postgres"
# Of what a program tells so many lines are kept for its error.
KEPT_LINES: Final = 12


def become_owner() -> None:
    """Go on as the owner of the data, whoever called.

    :raises BackupError: neither root nor the owner called, or there is no such user.
    """
    try:
        owner = pwd.getpwnam(OWNER)
    except KeyError:
        raise BackupError(f"this host has no user {OWNER}: is PostgreSQL installed?") from None
    if os.geteuid() == owner.pw_uid:
        return
    if os.geteuid() != 0:
        raise BackupError(f"run this as root or as {OWNER}")
    os.initgroups(OWNER, owner.pw_gid)
    os.setgid(owner.pw_gid)
    os.setuid(owner.pw_uid)
    os.environ |= {"HOME": owner.pw_dir, "USER": OWNER, "LOGNAME": OWNER}
    os.chdir("/")


def environment() -> dict[str, str]:
    """Return what programs get: their words in English, times in UTC."""
    return {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def with_us(words: Sequence[str]) -> list[str]:
    """Return *words* so that the program ends when we are killed: it must not write on alone."""
    return [shutil.which("setpriv") or "setpriv", "--pdeathsig=TERM", "--", *words]


def output_of(words: Sequence[str]) -> str:
    """Run *words* and return what it prints; raises ProgramError."""
    done = subprocess.run(
        with_us(words),
        capture_output=True,
        text=True,
        # A wrong cipher pass makes pgBackRest quote what it could not read.
        errors="replace",
        check=False,
        env=environment(),
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        said = "\n".join((done.stderr + done.stdout).strip().splitlines()[-KEPT_LINES:])
        raise ProgramError(words[0].rpartition("/")[2], done.returncode, said)
    return done.stdout


def pipe(first: Sequence[str], second: Sequence[str], file: IO[bytes]) -> None:
    """Write to *file* what *second* makes of what *first* prints; raises ProgramError."""
    source = subprocess.Popen(
        with_us(first), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    done = subprocess.run(
        with_us(second), stdin=source.stdout, stdout=file, stderr=subprocess.PIPE, check=False
    )
    assert source.stdout is not None
    source.stdout.close()
    said = source.stderr.read().decode(errors="replace") if source.stderr is not None else ""
    if source.wait() != 0:
        raise ProgramError(first[0].rpartition("/")[2], source.returncode, said)
    if done.returncode != 0:
        raise ProgramError(second[0], done.returncode, done.stderr.decode(errors="replace"))


def watch(words: Sequence[str]) -> None:
    """Run *words* and pass on, line by line, what it tells; raises ProgramError."""
    process = subprocess.Popen(
        with_us(words),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment(),
        stdin=subprocess.DEVNULL,
    )
    heard: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        # The first line of pgBackRest is its whole command line, which nobody reads.
        if " command begin " in line:
            continue
        tell(line.rstrip())
        heard = [*heard, line.rstrip()][-KEPT_LINES:]
    if process.wait() != 0:
        raise ProgramError(words[0].rpartition("/")[2], process.returncode, "\n".join(heard))


def tell(line: str) -> None:
    """Tell whoever watches how far it is."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
