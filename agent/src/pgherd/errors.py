# SPDX-License-Identifier: GPL-3.0-or-later
"""Every error of the agent, as one tree.

PgherdError
  ConfigError             a file or key is wrong; a human must change it
  ForeignDataError        the data directory belongs to another cluster
  StoreError              etcd
    StoreUnavailableError   no endpoint answered in time
    LeaseLostError          etcd does not know our lease any more
  PostgresError           the local instance
    NotAnsweringError       no connection, or no answer in time
    CommandError            a PostgreSQL program failed (exit code and output)
  PoolerError             a PgBouncer of this host does not answer, or refuses something
  NobodyAnswersError      a command found neither an agent nor etcd to ask
  TooLateError            what a command waited for did not come to hold in time
"""

from collections.abc import Sequence


class PgherdError(Exception):
    """Anything the agent raises on purpose."""


class ConfigError(PgherdError):
    """The configuration cannot be used.

    :param problems: one sentence for each problem; every one names the key.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class ListenError(PgherdError):
    """The REST API cannot listen where the configuration says."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(
            f"restapi.listen: the REST API cannot listen on {host}:{port}: {reason}. Is another "
            "agent running, or is the address not of this host?"
        )


class ForeignDataError(PgherdError):
    """The data directory's system identifier is not the cluster's."""

    def __init__(self, data_dir: str, found: str, expected: str, scope: str) -> None:
        super().__init__(
            f"{data_dir} belongs to another PostgreSQL cluster: its system identifier is {found}, "
            f"cluster {scope!r} has {expected}. Nothing was touched. Move the directory away, or "
            "correct `scope` in the configuration, and start pgherd again."
        )


class StoreError(PgherdError):
    """etcd refused a request."""


class StoreUnavailableError(StoreError):
    """No etcd endpoint answered in time."""


class LeaseLostError(StoreError):
    """etcd does not know the lease: it has expired or was revoked."""


class PostgresError(PgherdError):
    """The local PostgreSQL instance did not do what was asked."""


class NotAnsweringError(PostgresError):
    """PostgreSQL accepts no connection, or gave no answer in time."""


class CommandError(PostgresError):
    """A PostgreSQL program ended with an error."""

    def __init__(self, program: str, code: int, output: str) -> None:
        self.program = program
        self.code = code
        self.output = output.strip()
        lines = self.output.splitlines()
        # PostgreSQL's programs end with hints and details; the line that says "error" names it.
        telling = [line for line in lines if "error:" in line or "FATAL" in line] or lines[-1:]
        reason = telling[0] if telling else "no output"
        super().__init__(f"{program} ended with exit code {code}: {reason}")


class PoolerError(PgherdError):
    """A PgBouncer of this host does not answer, or refuses what is asked."""


class NobodyAnswersError(PgherdError):
    """Nobody answers whom a command has to ask."""


class TooLateError(PgherdError):
    """What a command waited for did not come to hold in time."""
