# SPDX-License-Identifier: GPL-3.0-or-later
"""The deployed cluster as a client sees it: through its agents' REST API and PostgreSQL."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lab.errors import LabError
from lab.wait import until
from lab.wire import Target, Wire, WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lab.settings import Settings

REPOSITORY: Final = Path(__file__).resolve().parents[1]
INVENTORY: Final = REPOSITORY / "inventories" / "lab"
REST_PORT: Final = 8008
REST_TIMEOUT_SECONDS: Final = 1.0
# The lab's inventory says so; nobody else needs to know them.
CLUSTER_NAME: Final = "demo"
MEMBERS: Final = ("pg1", "pg2", "pg3")
SUPERUSER: Final = "postgres"
REST_USER: Final = "pgherd"
REST_SECRET: Final = INVENTORY / ".secrets" / CLUSTER_NAME / "agent-rest"
SECRET: Final = INVENTORY / ".secrets" / CLUSTER_NAME / "postgresql-superuser"


@dataclass(frozen=True)
class Member:
    """A row of GET /cluster."""

    name: str
    role: str
    state: str
    timeline: int | None

    @property
    def leads(self) -> bool:
        """Whether this member is the leader and its PostgreSQL runs."""
        return self.role == "leader" and self.state == "running"


@dataclass(frozen=True)
class Cluster:
    """The cluster of the lab's inventory.

    password: the superuser's; None to read it where the playbooks leave it.
    login: name and password of who may change things by the REST API; None likewise.
    """

    settings: Settings
    password: str | None = field(default=None, repr=False)
    login: tuple[str, str] | None = field(default=None, repr=False)

    def rest(self, host: str, path: str) -> tuple[int, str]:
        """Return status and body of GET *path* of *host*'s agent; raises OSError."""
        url = f"http://{self.settings.address(host)}:{REST_PORT}{path}"
        try:
            with urllib.request.urlopen(url, timeout=REST_TIMEOUT_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def ask(
        self, host: str, method: str, path: str, body: Any = None, within: float = 120
    ) -> tuple[int, str]:
        """Return status and text of *host*'s agent's answer to what changes something.

        Raises OSError when there is none within *within* seconds.
        """
        url = f"http://{self.settings.address(host)}:{REST_PORT}{path}"
        login = self.login or (REST_USER, REST_SECRET.read_text(encoding="utf-8").strip())
        words = base64.b64encode(":".join(login).encode()).decode()
        headers = {"Authorization": f"Basic {words}", "Content-Type": "application/json"}
        data = json.dumps({} if body is None else body).encode()
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=within) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def members(self, *, ask: tuple[str, ...] = MEMBERS) -> list[Member]:
        """Return the members as the first agent of *ask* that answers sees them; else none."""
        for host in ask:
            try:
                status, body = self.rest(host, "/cluster")
            except OSError:
                continue
            if status == 200:
                return [_member(row) for row in json.loads(body)["members"]]
        return []

    def await_members(
        self, what: str, holds: Callable[[list[Member]], bool], timeout_seconds: float
    ) -> list[Member]:
        """Wait until *holds* is true of the members and return them.

        what: the condition in words, for the LabError raised after *timeout_seconds*.
        """
        return until(
            self.members,
            timeout_seconds,
            what,
            holds=holds,
            tell=lambda found: (
                "; ".join(f"{m.name} {m.role} {m.state} {m.timeline}" for m in found)
                or "no agent answers"
            ),
        )

    def await_healthy(self, timeout_seconds: float) -> str:
        """Wait until one member leads and the others stream on its timeline; return who leads."""
        members = self.await_members(
            "A leader and two streaming standbys", healthy, timeout_seconds
        )
        return next(member.name for member in members if member.leads)

    def target(self, host: str) -> Target:
        """Return how its superuser reaches *host*'s PostgreSQL; raises LabError unless deployed."""
        if self.password is None and not SECRET.is_file():
            raise LabError(f"{SECRET.name} is missing: deploy the cluster first (make demo).")
        password = self.password or SECRET.read_text(encoding="utf-8").strip()
        return Target(self.settings.address(host), SUPERUSER, password)

    def targets(self) -> tuple[Target, ...]:
        """Return the targets of all members."""
        return tuple(self.target(host) for host in MEMBERS)

    def query(self, host: str, sql: str, timeout_seconds: float = 10) -> list[tuple[str, ...]]:
        """Return the rows of *sql* on *host*; raises WireError."""
        with Wire(self.target(host), timeout_seconds) as wire:
            return wire.query(sql)

    def switch_position(self, host: str, timeline: int) -> str:
        """Return where the timeline after *timeline* branched off, by *host*'s history file.

        Raises LabError when *host* knows of no such branch.
        """
        current = int(self.query(host, "SELECT timeline_id FROM pg_control_checkpoint()")[0][0])
        for candidate in range(max(current, timeline + 1), timeline, -1):
            text = self._history(host, candidate)
            for line in text.splitlines():
                fields = line.split("\t")
                if fields[0] == str(timeline):
                    return fields[1]
        raise LabError(f"{host} has no history of a branch off timeline {timeline}.")

    def _history(self, host: str, timeline: int) -> str:
        name = f"pg_wal/{timeline:08X}.history"
        try:
            return self.query(host, f"SELECT pg_read_file('{name}')")[0][0]
        except WireError as error:
            raise LabError(f"{host} cannot show {name}: {error}") from error


class AgreedCluster(Cluster):
    """The cluster where only what all members show counts.

    Patroni's members show what they saw last, however long ago that was: one that was cut off
    shows itself as the leader of a healthy cluster for a while.
    """

    def members(self, *, ask: tuple[str, ...] = MEMBERS) -> list[Member]:
        """Return the members as the hosts *ask* see them; none unless all see the same lead.

        Of views that differ otherwise it is one that is not healthy.
        """
        views = [super(AgreedCluster, self).members(ask=(host,)) for host in ask]
        return agreed(views)


def agreed(views: Sequence[list[Member]]) -> list[Member]:
    """Return the least healthy of *views*; nothing when they differ in who leads."""
    leaders = {tuple(member.name for member in view if member.leads) for view in views}
    if len(leaders) != 1:
        return []
    return next((view for view in views if not healthy(view)), views[0])


def healthy(members: list[Member]) -> bool:
    """Whether one member leads and all others stream on its timeline."""
    leaders = [member for member in members if member.leads]
    followers = [member for member in members if member.state == "streaming"]
    timelines = {member.timeline for member in [*leaders, *followers]}
    return (
        len(leaders) == 1
        and len(members) == len(MEMBERS) == len(leaders) + len(followers)
        and len(timelines) == 1
    )


def _member(row: dict[str, Any]) -> Member:
    return Member(row["name"], row["role"], row["state"], row.get("timeline"))
