#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run this host's etcd member with the wanted settings, without ever breaking the quorum."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_member
short_description: Run an etcd member with the wanted settings
description:
  - Writes the member's settings as an environment file.
  - Sees to it that the running member has them.
  - Starts a first cluster without waiting for it, so that hosts may be handled one after the other.
  - Adds the member to a cluster that exists before it starts, as a learner, and promotes it.
  - So it does with one that was taken out; its data are put aside, as C(member.removed).
  - Restarts a member whose settings or unit differ only when the others keep the quorum.
  - So it must run on one host at a time, with C(throttle=1).
  - Compares with the environment of the running process.
  - So an earlier run that was cut short is made good.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
options:
  name:
    description: Name of the member.
    type: str
    required: true
  peers:
    description: Peer URL of every member of the inventory, by name.
    type: dict
    required: true
  clients:
    description: Client URL of every member of the inventory, by name.
    type: dict
    required: true
  settings:
    description: etcd's flags without dashes in front and their values; null drops a flag.
    type: dict
    required: true
  bootstrap:
    description: Whether no member of the inventory has data, so that a new cluster is made.
    type: bool
    required: true
  learner:
    description: Whether a member joins as a learner first, which cannot endanger the quorum.
    type: bool
    default: true
  path:
    description: The environment file.
    type: path
    default: /etc/default/etcd
  unit:
    description: The systemd unit.
    type: str
    default: etcd.service
  timeout_seconds:
    description: How long a start, a restart or a promotion may take.
    type: float
    default: 25
  tls:
    description: Client certificate files (C(cacert), C(cert), C(key)).
    type: dict
    default: {}
attributes:
  check_mode:
    description: Says what a run would do.
    support: full
  diff_mode:
    description: Shows the environment file.
    support: full
"""

EXAMPLES = r"""
- name: Run the member
  pgherd.cluster.etcd_member:
    name: pg1
    peers: {pg1: 'http://10.0.0.1:2380'}
    clients: {pg1: 'http://10.0.0.1:2379'}
    bootstrap: true
    settings: {data-dir: /var/lib/etcd/pgherd, heartbeat-interval: 100}
  throttle: 1
"""

RETURN = r"""
action:
  description: What was done, V(keep), V(start), V(bootstrap), V(join) or V(restart).
  returned: always
  type: str
"""

import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._environment import parse, render
from ansible_collections.pgherd.cluster.plugins.module_utils._etcd import (
    EtcdClient,
    Member,
    probe,
    probe_all,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._http import HttpError, Tls

if TYPE_CHECKING:
    from collections.abc import Callable

HEADER = "pgherd: the settings of this etcd member. Written by Ansible; a change here is undone."
# What only the first start of a member reads: a difference here is no reason to restart.
FIRST_START_ONLY = ("ETCD_INITIAL_CLUSTER", "ETCD_INITIAL_CLUSTER_STATE")
PAUSE_SECONDS = 0.3


class MemberError(Exception):
    """The member cannot be brought to what is wanted; the text says why and what to do."""


@dataclass(frozen=True)
class Now:
    """What there is: data, settings in the file and of the process (None: no process)."""

    has_data: bool
    file: dict[str, str]
    running: dict[str, str] | None
    unit_changed: bool = False


@dataclass
class Wanted:
    """What the task asked for."""

    name: str
    peers: dict[str, str]
    clients: dict[str, str]
    settings: dict[str, Any]
    bootstrap: bool
    learner: bool
    path: Path
    unit: str
    timeout_seconds: float
    tls: Tls = field(default_factory=Tls)

    @property
    def others(self) -> list[str]:
        """Client URLs of all other members."""
        return [url for name, url in self.clients.items() if name != self.name]


def environment(settings: dict[str, Any]) -> dict[str, str]:
    """Return etcd's flags as its environment variables; a null value drops the flag."""
    found = {}
    for flag, value in settings.items():
        if value is None:
            continue
        text = str(value).lower() if isinstance(value, bool) else str(value)
        found["ETCD_" + flag.upper().replace("-", "_")] = text
    return found


def plan(now: Now, wanted: Wanted) -> str:
    """Return the action that leads to *wanted*: keep, start, bootstrap, join or restart."""
    if not now.has_data:
        return "bootstrap" if wanted.bootstrap else "join"
    if now.running is None:
        return "start"
    lasting = {
        name: value
        for name, value in environment(wanted.settings).items()
        if name not in FIRST_START_ONLY
    }
    running = {
        name: value
        for name, value in now.running.items()
        if name.startswith("ETCD_") and name not in FIRST_START_ONLY
    }
    return "restart" if now.unit_changed or lasting != running else "keep"


def first_start(action: str, now: Now, wanted: Wanted, members: list[Member]) -> dict[str, str]:
    """Return the settings that only a first start reads.

    A member with data ignores them; it keeps what its file says, so that a new host in the
    inventory does not change the files of the old ones.
    """
    if action == "bootstrap":
        peers = sorted(wanted.peers.items())
        return {
            "ETCD_INITIAL_CLUSTER": ",".join(f"{name}={url}" for name, url in peers),
            "ETCD_INITIAL_CLUSTER_STATE": "new",
        }
    if action == "join":
        own = wanted.peers[wanted.name]
        peers = [(member.name, url) for member in members for url in member.peer_urls if url != own]
        named = sorted([*peers, (wanted.name, own)])
        return {
            "ETCD_INITIAL_CLUSTER": ",".join(f"{name}={url}" for name, url in named),
            "ETCD_INITIAL_CLUSTER_STATE": "existing",
        }
    return {name: now.file[name] for name in FIRST_START_ONLY if name in now.file}


def quorum_refusal(size: int, healthy_others: int) -> str:
    """Return why a member of *size* must not be restarted now, or an empty string.

    One or two members cannot spare one: there a restart is a short pause, so it is allowed
    when nobody else is sick.
    """
    needed = size // 2 + 1 if size > 2 else size - 1
    if healthy_others >= needed:
        return ""
    return (
        f"only {healthy_others} of the other {size - 1} members are healthy and {needed} are "
        "needed while this one restarts: repair them first, nothing was restarted"
    )


def members_by(url: str, tls: Tls) -> list[Member] | None:
    """Return the cluster's list as the member at *url* has it, None when it does not answer."""
    try:
        return list(EtcdClient(url, tls=tls).members())
    except HttpError:
        return None


def knows(members: list[Member], wanted: Wanted) -> bool:
    """Tell whether *wanted* is one of the cluster's *members*, at an older address perhaps."""
    own = wanted.peers[wanted.name]
    return any(own in member.peer_urls or member.name == wanted.name for member in members)


class Runner:
    """Carries out a plan on this host."""

    def __init__(self, module: AnsibleModule, wanted: Wanted) -> None:
        self.module = module
        self.wanted = wanted

    def systemctl(self, *words: str) -> str:
        """Run systemctl and return its output; raises MemberError with its complaint."""
        code, output, errors = self.module.run_command(["systemctl", *words])
        if code != 0:
            raise MemberError(
                f"systemctl {' '.join(words)}: {(errors or output).strip()} "
                f"Look at `journalctl -u {self.wanted.unit}`."
            )
        return str(output)

    @property
    def data(self) -> Path:
        """Where the member's data are."""
        return Path(self.wanted.settings["data-dir"]) / "member"

    def was_removed(self) -> bool:
        """Tell whether the others know no such member any more: it can never run with its data."""
        if probe(self.wanted.clients[self.wanted.name], tls=self.wanted.tls).healthy:
            return False
        lists = (members_by(url, self.wanted.tls) for url in self.wanted.others)
        found = next((each for each in lists if each is not None), None)
        return found is not None and not knows(found, self.wanted)

    def set_aside(self) -> None:
        """Put what a removed member left out of the way of the new one."""
        if self.data.is_dir():
            self.systemctl("stop", self.wanted.unit)
            old = self.data.with_name("member.removed")
            if old.exists():
                shutil.rmtree(old)
            self.data.rename(old)

    def observe(self) -> Now:
        """Read what there is."""
        shown = self.systemctl("show", "-p", "MainPID", "-p", "NeedDaemonReload", self.wanted.unit)
        unit = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        file = parse(self.wanted.path.read_text()) if self.wanted.path.exists() else {}
        return Now(
            has_data=self.data.is_dir() and not self.was_removed(),
            file=file,
            running=process_environment(int(unit.get("MainPID", "0"))),
            unit_changed=unit.get("NeedDaemonReload") == "yes",
        )

    def write(self, text: str) -> None:
        """Put the environment file in place in one step."""
        handle, name = tempfile.mkstemp(dir=self.wanted.path.parent, prefix=".etcd")
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
        Path(name).chmod(0o644)
        self.module.atomic_move(name, str(self.wanted.path))

    def cluster(self) -> tuple[EtcdClient, list[Member]]:
        """Return a member that answers and its list, waiting for one within the bound."""
        complaints: dict[str, str] = {}

        def ask() -> tuple[EtcdClient, list[Member]] | None:
            for url in self.wanted.others:
                client = EtcdClient(url, tls=self.wanted.tls)
                try:
                    return client, client.members()
                except HttpError as error:
                    complaints[url] = str(error)
            return None

        found: tuple[EtcdClient, list[Member]] | None = self.wait(ask)
        if found is None:
            raise MemberError(
                "this host has no etcd data, the cluster it belongs to has, and no member of it "
                f"answers: {complaints}. Start those members first (or run without --limit)."
            )
        return found

    def wait(self, ask: Callable[[], Any]) -> Any:
        """Return the first answer of *ask* that is not None, or None when the bound has passed."""
        deadline = time.monotonic() + self.wanted.timeout_seconds
        while True:
            answer = ask()
            if answer is not None or time.monotonic() > deadline:
                return answer
            time.sleep(PAUSE_SECONDS)

    def register(self, client: EtcdClient, members: list[Member]) -> list[Member]:
        """Enter this host in the cluster's list, and return the list.

        A member of that address that ran before lost its data with its votes: it must not
        come back as the same member, so it is taken out and added anew.
        """
        own = self.wanted.peers[self.wanted.name]
        for member in members:
            if own in member.peer_urls:
                if not member.name:
                    return members
                client.member_remove(member)
        client.member_add(own, self.wanted.learner)
        return list(client.members())

    def promote(self, client: EtcdClient) -> None:
        """Make this host's member a voter as soon as it is in step."""
        own = self.wanted.peers[self.wanted.name]
        complaint = "it did not start"

        def ask() -> bool | None:
            nonlocal complaint
            try:
                member = next(each for each in client.members() if own in each.peer_urls)
                if not member.learner:
                    return True if member.name else None
                client.member_promote(member)
            except HttpError as error:
                complaint = str(error)
                return None
            return True

        if self.wait(ask) is None:
            raise MemberError(
                f"member {self.wanted.name} was added but is no voter after "
                f"{self.wanted.timeout_seconds:g} s: {complaint}. The next run tries again."
            )

    def restart(self) -> None:
        """Restart the member when the others keep the quorum, and wait until it is healthy."""
        own = self.wanted.clients[self.wanted.name]
        if probe(own, tls=self.wanted.tls).healthy:  # else a restart can only repair
            healths = probe_all(self.wanted.others, 3.0, self.wanted.tls)
            healthy = sum(health.healthy for health in healths)
            refusal = quorum_refusal(len(self.wanted.clients), healthy)
            if refusal:
                raise MemberError(refusal)
        self.systemctl("restart", self.wanted.unit)
        self.wait_healthy(own)

    def wait_healthy(self, url: str) -> None:
        """Wait until the endpoint is healthy; raises MemberError with what it says."""

        def ask() -> bool | None:
            return True if probe(url, tls=self.wanted.tls).healthy else None

        if self.wait(ask) is None:
            health = probe(url, tls=self.wanted.tls)
            raise MemberError(f"{url} is {health.status} after its restart: {health.detail}")

    def pending_promotion(self) -> bool:
        """Tell whether this host's running member is still a learner: an earlier run was cut."""
        if not self.wanted.others:
            return False
        health = probe(self.wanted.clients[self.wanted.name], tls=self.wanted.tls)
        return bool(health.detail == "learner")


def process_environment(pid: int) -> dict[str, str] | None:
    """Return the environment of a process, None when there is none."""
    try:
        text = (Path("/proc") / str(pid) / "environ").read_text() if pid else ""
    except OSError:
        return None  # it ended between the two looks
    pairs = (line.split("=", 1) for line in text.split("\0") if "=" in line)
    return dict(pairs) or None


def converge(runner: Runner, check: bool) -> dict[str, Any]:
    """Do what the plan says and return the module's result; in a check run only say it."""
    wanted = runner.wanted
    now = runner.observe()
    action = plan(now, wanted)
    members: list[Member] = []
    client = None
    if action == "join" and not check:
        client, members = runner.cluster()
        members = runner.register(client, members)
    settings = environment(wanted.settings)
    settings.update(first_start(action, now, wanted, members))
    before = wanted.path.read_text() if wanted.path.exists() else ""
    after = render(dict(sorted(settings.items())), HEADER)
    if not check:
        if before != after:
            runner.write(after)
        perform(runner, action, now, client)
    if action == "keep" and runner.pending_promotion():
        action = "promote"
        if not check:
            runner.promote(runner.cluster()[0])
    return {
        "changed": action != "keep" or before != after,
        "action": action,
        "diff": {
            "before": before,
            "after": after,
            "before_header": str(wanted.path),
            "after_header": f"{wanted.path} ({action})",
        },
    }


def perform(runner: Runner, action: str, now: Now, client: EtcdClient | None) -> None:
    """Start, join or restart the member."""
    unit = runner.wanted.unit
    if now.unit_changed or action in ("bootstrap", "join", "start"):
        runner.systemctl("daemon-reload")
    if action in ("bootstrap", "start"):
        # Not waited for: a first member is ready only when the next ones have started.
        # Restart, because a package may have left a lone member with settings of its own.
        runner.systemctl("restart", "--no-block", unit)
    if action == "join" and client is not None:
        runner.set_aside()
        runner.systemctl("restart", "--no-block", unit)
        runner.promote(client)
    if action == "restart":
        runner.restart()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "peers": {"type": "dict", "required": True},
            "clients": {"type": "dict", "required": True},
            "settings": {"type": "dict", "required": True},
            "bootstrap": {"type": "bool", "required": True},
            "learner": {"type": "bool", "default": True},
            "path": {"type": "path", "default": "/etc/default/etcd"},
            "unit": {"type": "str", "default": "etcd.service"},
            "timeout_seconds": {"type": "float", "default": 25},
            "tls": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    params: dict[str, Any] = dict(module.params)
    wanted = Wanted(**{**params, "path": Path(params["path"]), "tls": Tls(**params["tls"])})
    try:
        result = converge(Runner(module, wanted), bool(module.check_mode))
    except (MemberError, HttpError, ValueError) as error:
        module.fail_json(msg=f"etcd member {wanted.name}: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
