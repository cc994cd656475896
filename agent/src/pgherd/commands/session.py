# SPDX-License-Identifier: GPL-3.0-or-later
"""What every command about the cluster has: its configuration, whom it asks, how it answers."""

from __future__ import annotations

import functools
import json
import os
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pgherd.commands.rest import Reply, Rest, UnreachableError, base_of
from pgherd.errors import NobodyAnswersError, PgherdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pgherd.config import Config

CONFIG: Final = "/etc/pgherd/pgherd.yml"
# Members that lead, as `GET /cluster` says it.
LEADING: Final = ("leader", "standby_leader")
LOGIN_REMEDY: Final = (
    "the name and the password are `ctl.authentication`, else `restapi.authentication`, of the "
    "configuration file"
)
# How long a member other than ours may keep a table waiting, seconds.
PEER_SECONDS: Final = 1.0


class Session:
    """One run of a command.

    :param path: the agent's configuration file.
    :param as_json: answer in JSON.
    :param names: the cluster's name, perhaps, and members.
    :param force: ask nothing.
    """

    def __init__(
        self, path: Path, *, as_json: bool, names: Sequence[str] = (), force: bool = False
    ) -> None:
        self.path = path
        self.as_json = as_json
        self.force = force
        self.names = tuple(names)

    @cached_property
    def config(self) -> Config:
        """The agent's configuration.

        :raises ConfigError: it cannot be read or used.
        """
        from pgherd.config import load

        return load(self.path)

    @cached_property
    def members(self) -> tuple[str, ...]:
        """The members that were named, without the cluster's name before them."""
        names = self.names
        return names[1:] if names and names[0] == self.config.scope else names

    def check_names(self) -> None:
        """Refuse names where only the cluster's may stand.

        :raises click.UsageError: another name is there.
        """
        if self.members:
            raise click.UsageError(
                f"this host belongs to cluster {self.config.scope!r}; "
                f"{self.members[0]!r} is another name"
            )

    @cached_property
    def rest(self) -> Rest:
        return Rest(self.config.ctl.context(), self.config.ctl.headers)

    @property
    def local(self) -> str:
        """The address of this host's agent."""
        return base_of(self.config.api_url)

    def read(self, path: str) -> Reply:
        """Ask this host's agent for *path*.

        :raises NobodyAnswersError: it does not answer.
        """
        return self.rest.get(self.local, path)

    def cluster(self) -> dict[str, Any]:
        """Return the body of `GET /cluster`: from this host's agent, else made from etcd.

        :raises NobodyAnswersError: neither answers.
        """
        try:
            reply = self.read("/cluster")
        except NobodyAnswersError:
            reply = Reply(0, "")
        if reply.status == 200 and "members" in reply.mapping():
            return reply.mapping()
        from pgherd.commands.keys import read_cluster

        try:
            return read_cluster(self.config)
        except NobodyAnswersError as error:
            node = self.node({"api_url": self.config.api_url})
            if not node:
                raise
            ours = node.get("pgherd") or {}
            raise NobodyAnswersError(
                f"etcd does not answer; the agent of this host does: {node.get('role')}, "
                f"{node.get('state')}, rule {ours.get('rule')}: {ours.get('why')}"
            ) from error

    def node(self, member: Mapping[str, Any], within: float = PEER_SECONDS) -> dict[str, Any]:
        """Return the body of `GET /patroni` of a member, empty when it does not answer in time."""
        try:
            base = base_of(str(member.get("api_url", "")))
            return self.rest.get(base, "/patroni", within=within).mapping()
        except NobodyAnswersError:
            return {}

    def act(
        self, members: Iterable[Mapping[str, Any]], method: str, path: str, body: Any = None
    ) -> Reply:
        """Have the first of *members* that can be reached do something; wait for its outcome.

        :raises NobodyAnswersError: none is reached, or the connection broke afterwards.
        :raises PgherdError: we are not let in.
        """
        problems = []
        for row in members:
            try:
                reply = self.rest.act(method, base_of(str(row.get("api_url", ""))), path, body)
            except UnreachableError as error:
                problems.append(str(error))
                continue
            if reply.status in (401, 403):
                raise PgherdError(f"{row.get('name')}: {reply.text}; {LOGIN_REMEDY}")
            return reply
        raise UnreachableError("; ".join(problems) or "no member has published itself")

    def confirm(self, question: str) -> None:
        """Ask a person, unless told not to.

        :raises click.UsageError: nobody is there to be asked.
        :raises click.Abort: the answer was no.
        """
        if self.force:
            return
        if not sys.stdin.isatty():
            raise click.UsageError("there is no terminal to ask at: say --force to go ahead")
        click.confirm(question, abort=True, err=True)

    def tell(self, text: str) -> None:
        """Show a line to a person; it is left out of what a script reads."""
        click.echo(text, err=self.as_json)

    def answer(self, value: Any) -> None:
        """Print *value* as JSON."""
        click.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None, default=str))


def leader_of(cluster: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the member that leads in a body of `GET /cluster`."""
    return next((row for row in cluster.get("members", ()) if row.get("role") in LEADING), None)


def by_use(cluster: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the members, the leader first: it knows soonest what it can do."""
    return sorted(cluster.get("members", ()), key=lambda row: row.get("role") not in LEADING)


def pick(cluster: Mapping[str, Any], names: Iterable[str]) -> list[dict[str, Any]]:
    """Return the members called *names*, all of them for none.

    :raises PgherdError: there is no such member.
    """
    known = {str(row.get("name")): row for row in cluster.get("members", ())}
    wanted = list(names) or list(known)
    for name in wanted:
        if name not in known:
            raise PgherdError(f"there is no member {name!r}; members: {', '.join(known) or 'none'}")
    return [known[name] for name in wanted]


def _default_path() -> Path:
    context = click.get_current_context(silent=True)
    given = context.find_root().params.get("path") if context else None
    return Path(given or os.environ.get("PGHERD_CONFIG") or CONFIG)


def _config_option(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        *names,
        "path",
        default=_default_path,
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help=f"The agent's configuration file [{CONFIG}].",
    )


config_option = _config_option("-c", "--config")
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
force_option = click.option(
    "-y", "--yes", "--force", "force", is_flag=True, help="Ask nothing: go ahead."
)


def session_command(
    *, members: bool = False, force: bool = False, short_config: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command its session as first argument, and the options that go with it.

    :param members: names of members may be given, after that of the cluster or alone.
    :param force: it asks before it acts.
    :param short_config: `-c` names the configuration file, as in most commands.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(
            path: Path, as_json: bool, names: tuple[str, ...], force: bool = False, **others: Any
        ) -> None:
            session = Session(path, as_json=as_json, names=names, force=force)
            if not members:
                session.check_names()
            function(session, **others)

        metavar = "[CLUSTER] [MEMBER]..." if members else "[CLUSTER]"
        shared = [_config_option("-c", "--config") if short_config else _config_option("--config")]
        shared += [json_option, *([force_option] if force else [])]
        # Click shows them in the opposite order: its own options come before those of them all.
        own = run.__dict__.pop("__click_params__", [])
        for option in shared:
            option(run)
        run.__dict__["__click_params__"] += own
        return click.argument("names", nargs=-1, metavar=metavar, shell_complete=_names)(run)

    return decorate


def _names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the members' names that begin with *incomplete*, for the shell's completion."""
    try:
        session = Session(context.params.get("path") or _default_path(), as_json=True)
        names = [str(row.get("name")) for row in session.cluster().get("members", ())]
    except PgherdError:
        return []
    return [name for name in names if name.startswith(incomplete)]
