# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL of our own: it recovers what was restored, and nobody reaches it over a network."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pgherd_backup import programs
from pgherd_backup.errors import BackupError, ProgramError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Between two looks, seconds.
LOOK_SECONDS: Final = 0.2
# How often a recovery says how far it is, seconds.
TELL_SECONDS: Final = 5.0
# Not those of the server that was backed up: they may name files, hosts and sizes of its host.
PRIVATE: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    # A standby's limits need not fit: nobody reads here until recovery is over.
    "hot_standby": "off",
    "synchronous_standby_names": "",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "logging_collector": "off",
    "log_destination": "stderr",
    "ssl": "off",
    "huge_pages": "off",
    "archive_cleanup_command": "",
    "recovery_end_command": "",
    "wal_level": "replica",
    "max_wal_senders": "0",
    # Who connects is told by the socket's directory, which only its owner may enter.
    "unix_socket_permissions": "0700",
}


@dataclass
class Instance:
    """A server on *data_dir* that listens only in *socket_dir*.

    :ivar overrides: settings beyond `PRIVATE`.
    """

    data_dir: Path
    socket_dir: Path
    bin_dir: Path
    overrides: Mapping[str, str] = field(default_factory=dict)
    port: int = 5432

    @property
    def log(self) -> Path:
        """What the server tells."""
        return self.data_dir.with_name(self.data_dir.name + ".log")

    def start(self) -> None:
        """Start the server, without waiting for anything; raises BackupError."""
        self.socket_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        hba, ident = self.data_dir / "pgherd-restore-hba.conf", "pgherd-restore-ident.conf"
        hba.write_text("local all all peer\nlocal all all trust\n", encoding="utf-8")
        (self.data_dir / ident).write_text("", encoding="utf-8")
        settings = {
            **PRIVATE,
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_dir),
            "hba_file": str(hba),
            "ident_file": str(self.data_dir / ident),
            **self.overrides,
        }
        options = " ".join(f"-c {name}='{_quoted(value)}'" for name, value in settings.items())
        programs.output_of(
            [str(self.bin_dir / "pg_ctl"), "--pgdata", str(self.data_dir), "--no-wait", "--silent",
             "--log", str(self.log), "--options", options, "start"]
        )  # fmt: skip

    def await_primary(self, within: float) -> None:
        """Wait until recovery is over and it takes connections.

        :param within: seconds.
        :raises BackupError: the server ended, or time ran out; with what it told last.
        """
        deadline, told = time.monotonic() + within, time.monotonic()
        while True:
            if self.answers() and self.query("SELECT pg_is_in_recovery()") == "f":
                return
            if not self.runs():
                raise BackupError(f"PostgreSQL ended while it recovered: {self.last_words()}")
            if time.monotonic() >= deadline:
                raise BackupError(f"recovery was not over within {within:g} s")
            if time.monotonic() - told >= TELL_SECONDS:
                told = time.monotonic()
                programs.tell(f"recovering: {self.last_words(1)}")
            time.sleep(LOOK_SECONDS)

    def runs(self) -> bool:
        """Tell whether there is a postmaster."""
        try:
            pid = int((self.data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
            os.kill(pid, 0)
        except PermissionError:
            return True
        except (OSError, ValueError):
            # pg_ctl does not wait, and the file comes a moment after the process.
            return self._is_young()
        return True

    def _is_young(self) -> bool:
        try:
            return time.time() - self.log.stat().st_mtime < 2 and not self._has_failed()
        except OSError:
            return False

    def _has_failed(self) -> bool:
        words = self.last_words(3)
        return "FATAL" in words or "database system is shut down" in words

    def answers(self) -> bool:
        """Tell whether it takes connections."""
        try:
            programs.output_of(
                [str(self.bin_dir / "pg_isready"), "-q", "-h", str(self.socket_dir),
                 "-p", str(self.port)]
            )  # fmt: skip
        except ProgramError:
            return False
        return True

    def query(self, sql: str, database: str = "postgres") -> str:
        """Return what psql prints of *sql*, bare; raises ProgramError."""
        return programs.output_of(
            [str(self.bin_dir / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-h",
             str(self.socket_dir), "-p", str(self.port), "-d", database, "-c", sql]
        ).strip()  # fmt: skip

    def stop(self, mode: str = "fast", within: float = 3600) -> None:
        """Stop it, if it runs; raises ProgramError."""
        if (self.data_dir / "postmaster.pid").exists() and self.runs():
            programs.output_of(
                [str(self.bin_dir / "pg_ctl"), "--pgdata", str(self.data_dir), "--silent",
                 f"--timeout={within:.0f}", f"--mode={mode}", "stop"]
            )  # fmt: skip

    def kill(self) -> None:
        """End it at once, whatever it does."""
        try:
            pid = int((self.data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
            os.kill(pid, signal.SIGQUIT)
        except (OSError, ValueError):
            return

    def last_words(self, lines: int = 6) -> str:
        """Return what the server told last."""
        try:
            said = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            return "nothing is said"
        return " | ".join(said[-lines:]) or "nothing is said"


def _quoted(value: str) -> str:
    # A shell reads the options of pg_ctl.
    return value.replace("'", "'\\''")
