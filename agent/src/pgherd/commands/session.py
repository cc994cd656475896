# SPDX-License-Identifier: GPL-3.0-or-later
"""What every command about the cluster has: its configuration, whom it asks, how it answers."""

from __future__ import annotations

import functools
import json
import os
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pgherd.commands.rest import READ_SECONDS, Reply, Rest, UnreachableError, base_of
from pgherd.errors import ConfigError, NobodyAnswersError, PgherdError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from pgherd.client_config import Client
    from pgherd.config import Config
    from pgherd.store import Store

Result = TypeVar("Result")

CONFIG: Final = "/etc/pgherd/pgherd.yml"
# Of who looks after a cluster from a machine that is no host of it; below the user's configuration.
OWN_CONFIG: Final = "pgherd/pgherdctl.yml"
# Members that lead, as `GET /cluster` says it.
LEADING: Final = ("leader", "standby_leader")
LOGIN_REMEDY: Final = (
    "the name and the password are `ctl.authentication`, else `restapi.authentication`, of the "
    "configuration file"
)
ETCD_REMEDY: Final = (
    "more than half of etcd's members must run and be reached: systemctl status etcd"
)
# How long a member other than ours may keep a table waiting, seconds.
PEER_SECONDS: Final = 1.0


class Session:
    """One run of a command.

    :param path: the configuration file, of a host or of a client.
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
        # What came of asking agents when none answered.
        self._silence: list[str] = []

    @cached_property
    def known(self) -> Config | Client:
        """What is known of the cluster: by its host, or by a client elsewhere.

        :raises ConfigError: the file cannot be read or used.
        :raises click.UsageError: it leaves the cluster's name to the command line.
        """
        from pgherd.client_config import build_client, is_client
        from pgherd.config import checked, read

        try:
            raw = read(self.path)
        except ConfigError as error:
            remedy = _unread(self.path)
            raise ConfigError([*error.problems, *remedy]) from error
        if not is_client(raw):
            return checked(raw)
        client = build_client(raw, self.path.parent.absolute())
        if not client.scope and not self.names:
            raise click.UsageError(f"{self.path} names no cluster: say which one is meant")
        return client if client.scope else client.of(self.names[0])

    @cached_property
    def config(self) -> Config:
        """The configuration of this host.

        :raises ConfigError: it cannot be read or used.
        :raises PgherdError: this is no host of the cluster.
        """
        from pgherd.config import Config

        if not isinstance(self.known, Config):
            raise PgherdError(
                f"this looks at a host's own files, and {self.path} is a client's: "
                "run it on a host of the cluster"
            )
        return self.known

    @cached_property
    def agents(self) -> tuple[str, ...]:
        """The addresses of agents to ask what is: of this host's, or of those a client names."""
        from pgherd.config import Config

        known = self.known
        return (base_of(known.api_url),) if isinstance(known, Config) else known.agents

    @cached_property
    def members(self) -> tuple[str, ...]:
        """The members that were named, without the cluster's name before them."""
        names = self.names
        return names[1:] if names and names[0] == self.known.scope else names

    def check_names(self) -> None:
        """Refuse names where only the cluster's may stand.

        :raises click.UsageError: another name is there.
        """
        if self.members:
            owner = self.path if self.known.name == "" else "this host"
            raise click.UsageError(
                f"{owner} belongs to cluster {self.known.scope!r}; "
                f"{self.members[0]!r} is another name"
            )

    @cached_property
    def rest(self) -> Rest:
        ctl = self.known.ctl
        try:
            return Rest(ctl.context(), ctl.headers)
        except OSError as error:
            named = [path for path in (ctl.ca, ctl.certificate, ctl.key) if path]
            reason = error.strerror or error
            raise ConfigError([f"ctl: {', '.join(named)}: cannot be used: {reason}"]) from error

    def read(self, path: str) -> Reply:
        """Ask the agents for *path*, the next one if one does not answer.

        :raises NobodyAnswersError: none answers.
        """
        problems = []
        within = READ_SECONDS if len(self.agents) == 1 else PEER_SECONDS
        for base in self.agents:
            try:
                return self.rest.get(base, path, within=within)
            except NobodyAnswersError as error:
                problems.append(str(error))
        self._silence = problems
        raise NobodyAnswersError("; ".join(problems) or "there is no agent to ask")

    def cluster(self) -> dict[str, Any]:
        """Return the body of `GET /cluster`: from an agent that may be asked, else made from etcd.

        :raises NobodyAnswersError: neither answers.
        """
        try:
            reply = self.read("/cluster")
        except NobodyAnswersError:
            reply = Reply(0, "")
        if reply.status == 200 and "members" in reply.mapping():
            return reply.mapping()
        from pgherd.published import cluster_body

        async def read_keys(store: Store) -> dict[str, Any]:
            return cluster_body(await store.load(), self.known.scope, self.known.endpoints)

        return self.keys(read_keys)

    def keys(self, work: Callable[[Store], Awaitable[Result]]) -> Result:
        """Do *work* on the cluster's keys in etcd.

        :raises NobodyAnswersError: etcd does not answer; it tells what an agent says meanwhile.
        :raises StoreError: it refuses.
        """
        from pgherd.commands.keys import with_keys

        try:
            return with_keys(self.known, work)
        except NobodyAnswersError as error:
            told = None if self._silence else self._told_of_itself()
            if told is None:
                told = "; ".join([str(error), *self._silence])
            raise NobodyAnswersError(told) from error

    def _told_of_itself(self) -> str | None:
        """Return what an agent still says while etcd is silent, None when none answers either."""
        for base in self.agents:
            node = self.node({"api_url": base})
            if node:
                ours = node.get("pgherd") or {}
                name = (node.get("patroni") or {}).get("name")
                return (
                    f"etcd does not answer; the agent of {name or 'this host'} does: "
                    f"{node.get('role')}, {node.get('state')}, rule {ours.get('rule')}: "
                    f"{ours.get('why')}; {ETCD_REMEDY}"
                )
        return None

    def node(self, member: Mapping[str, Any], within: float = PEER_SECONDS) -> dict[str, Any]:
        """Return the body of `GET /patroni` of a member, empty when it does not answer in time."""
        return self.told_by(member, "/patroni", within)

    def told_by(
        self, member: Mapping[str, Any], path: str, within: float = PEER_SECONDS
    ) -> dict[str, Any]:
        """Return the body of a page of a member, empty when it does not answer in time."""
        try:
            base = base_of(str(member.get("api_url", "")))
            return self.rest.get(base, path, within=within).mapping()
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
        if not problems:
            raise UnreachableError(
                "no member has published itself: is pgherd running on the hosts?"
            )
        raise UnreachableError(f"{'; '.join(problems)}; look there at `systemctl status pgherd`")

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


def own_path() -> Path:
    """Return where a user's own configuration of a client is, whether it is there or not."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", OWN_CONFIG)


def _given_path() -> str | Path | None:
    context = click.get_current_context(silent=True)
    given = context.find_root().params.get("path") if context else None
    return given or os.environ.get("PGHERD_CONFIG")


def _default_path() -> Path:
    given = _given_path()
    if given:
        return Path(given)
    host = Path(CONFIG)
    return host if os.access(host, os.R_OK) or not own_path().exists() else own_path()


def _unread(path: Path) -> list[str]:
    """Return what to do about a file that cannot be read, nothing when there is more to it."""
    if not path.exists() and str(path) == CONFIG:
        return [f"is this a host of a cluster? elsewhere {own_path()} says where the cluster is"]
    if path.exists() and not os.access(path, os.R_OK):
        return ["run this as root, or as a member of the group postgres"]
    return []


def _host_path() -> Path:
    return Path(_given_path() or CONFIG)


def _config_option(
    *names: str, host: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    places = CONFIG if host else f"{CONFIG}, else ~/.config/{OWN_CONFIG}"
    return click.option(
        *names,
        "path",
        default=_host_path if host else _default_path,
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help=f"Configuration file [{places}].",
    )


config_option = _config_option("-c", "--config")
host_option = _config_option("-c", "--config", host=True)
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
force_option = click.option(
    "-y", "--yes", "--force", "force", is_flag=True, help="Ask nothing: go ahead."
)


def session_command(
    *, members: bool = False, force: bool = False, short_config: bool = True, words: str = ""
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command its session as first argument, and the options that go with it.

    :param members: names of members may be given, after that of the cluster or alone.
    :param force: it asks before it acts.
    :param words: one of these is to be among the names; separated by `|`.
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

        metavar = " ".join(["[CLUSTER]", *([words] if words else [])])
        metavar += " [MEMBER]..." if members else ""
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
        path, given = context.params.get("path"), context.params.get("names")
        session = Session(path or _default_path(), as_json=True, names=given or ())
        names = [str(row.get("name")) for row in session.cluster().get("members", ())]
    except (PgherdError, click.UsageError):
        return []
    return [name for name in names if name.startswith(incomplete)]
