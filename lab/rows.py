# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults of `make faults`: each breaks a healthy cluster and mends what it broke."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from lab import disks, faults, handovers, processes
from lab.cluster import MEMBERS
from lab.errors import LabError
from lab.stage import Fault, FaultError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.stage import Stage

KILLS: Final = 20
FAILOVERS: Final = 3
LATE_SECONDS: Final = 5.0


def agent_frozen(stage: Stage) -> None:
    """Freeze the agent; what systemd starts in its place is left alone."""
    frozen = processes.signal(stage.lab, stage.primary, stage.agent, "STOP")
    stage.hold()
    processes.thaw(stage.lab, stage.primary, frozen)


def agent_held_frozen(stage: Stage) -> None:
    """Freeze the agent, and again whatever systemd starts in its place."""
    frozen: set[int] = set()
    deadline = time.monotonic() + stage.seconds
    while time.monotonic() < deadline:
        current = processes.pid(stage.lab, stage.primary, "agent")
        if current and current not in frozen:
            frozen.add(processes.signal(stage.lab, stage.primary, "agent", "STOP"))
        time.sleep(0.05)
    for process in frozen:
        processes.thaw(stage.lab, stage.primary, process)


def agent_killed(times: int) -> Callable[[Stage], None]:
    """Return the fault that kills the agent again and again, each time as soon as it is back."""

    def act(stage: Stage) -> None:
        for _ in range(times):
            before = processes.signal(stage.lab, stage.primary, "agent", "KILL")
            processes.await_back(stage.lab, stage.primary, "agent", before)

    act.__doc__ = f"Kill the agent, {times} times in all, each time as soon as it is back."
    return act


def agent_stopped(stage: Stage) -> None:
    """Stop the agent in good order: the lead is handed over. Start it once another leads."""
    stage.lab.exec(stage.primary, ["systemctl", "stop", processes.UNITS["agent"]])
    stage.lab.progress.line(stage.primary, "agent stopped")
    stage.await_commits()
    stage.lab.exec(stage.primary, ["systemctl", "start", processes.UNITS["agent"]])


def agent_and_guard_killed(stage: Stage) -> None:
    """Kill both at once; systemd starts both again."""
    names = [name for name in ("agent", "guard") if processes.has(stage.lab, stage.primary, name)]
    units = [processes.UNITS[name] for name in names]
    before = processes.pid(stage.lab, stage.primary, "agent")
    command = ["systemctl", "kill", "--kill-whom=main", "-s", "KILL", *units]
    stage.lab.exec(stage.primary, command)
    stage.lab.progress.line(stage.primary, f"{' and '.join(names)} killed")
    processes.await_back(stage.lab, stage.primary, "agent", before)


def agent_and_guard_gone(stage: Stage) -> None:
    """Kill both for good: nobody is left to stop the old primary, its commits must wait."""
    processes.keep_down(stage.lab, stage.primary, ("agent", "guard"))
    stage.await_leader_other_than(stage.primary)
    stage.hold()
    processes.bring_back(stage.lab, stage.primary, ("agent", "guard"))


def host_paused(stage: Stage) -> None:
    """Freeze the primary's host and let it go on long after it was replaced."""
    stage.lab.pause(stage.primary)
    stage.hold()
    stage.lab.unpause(stage.primary)


def host_lost(stage: Stage) -> None:
    """Cut the power of the primary's host; switch it on once another leads."""
    stage.lab.kill(stage.primary)
    stage.await_commits()
    stage.lab.start(stage.primary)


def cut(how: faults.Cut | None = None) -> Callable[[Stage], None]:
    """Return the fault that cuts the primary off; without *how* from everybody."""

    def act(stage: Stage) -> None:
        faults.cut(stage.lab, stage.primary, how)
        stage.hold()
        stage.await_commits()
        faults.heal(stage.lab, stage.primary)

    act.__doc__ = f"Cut the primary off from {how or faults.Cut()}."
    return act


def standby_lost(stage: Stage) -> None:
    """Cut the power of a standby's host; switch it on later."""
    stage.lab.kill(stage.standbys[0])
    stage.hold()
    stage.await_commits()
    stage.lab.start(stage.standbys[0])


def standby_paused(stage: Stage) -> None:
    """Freeze a standby's host for a while."""
    stage.lab.pause(stage.standbys[0])
    stage.hold()
    stage.lab.unpause(stage.standbys[0])


def _lose_standbys(stage: Stage) -> None:
    # Not their hosts: etcd would be lost with them, and with it every leader.
    for host in stage.standbys:
        processes.keep_down(stage.lab, host, ("agent", "guard"))
        processes.signal(stage.lab, host, processes.POSTMASTER, "KILL")


def both_standbys_lost(stage: Stage) -> None:
    """Kill all of pgherd and PostgreSQL on both standbys: the primary goes on alone."""
    _lose_standbys(stage)
    stage.hold()
    stage.await_commits()
    for host in stage.standbys:
        processes.bring_back(stage.lab, host, ("agent", "guard"))


def both_standbys_lost_strict(stage: Stage) -> None:
    """The same in strict mode: nothing is acknowledged until one is back."""
    _lose_standbys(stage)
    lost = time.monotonic()
    stage.hold()
    acknowledged = stage.commits_since(lost)
    for host in stage.standbys:
        processes.bring_back(stage.lab, host, ("agent", "guard"))
    if acknowledged:
        raise FaultError(f"{acknowledged} rows were acknowledged with no standby, in strict mode")


def etcd_leader_and_primary_lost(stage: Stage) -> None:
    """Cut the power of the primary's host just when etcd's leader is there, too."""
    stage.store.lead_raft(stage.primary)
    stage.lab.kill(stage.primary)
    stage.await_commits()
    stage.lab.start(stage.primary)


def etcd_member_hung(stage: Stage) -> None:
    """Freeze the etcd member of the primary's host."""
    _freeze_etcd(stage, stage.primary)


def etcd_leader_hung(stage: Stage) -> None:
    """Freeze the etcd member that leads."""
    _freeze_etcd(stage, stage.store.raft_leader())


def _freeze_etcd(stage: Stage, host: str) -> None:
    frozen = processes.signal(stage.lab, host, "etcd", "STOP")
    stage.hold()
    processes.thaw(stage.lab, host, frozen)


def etcd_stopped(stage: Stage) -> None:
    """Stop every etcd member for a while."""
    _etcd_everywhere(stage, "stop")
    stage.hold()
    _etcd_everywhere(stage, "start")


def etcd_stopped_failsafe(stage: Stage) -> None:
    """The same in failsafe mode: writes go on to the end."""
    _etcd_everywhere(stage, "stop")
    stage.hold()
    acknowledged = stage.commits_since(time.monotonic() - LATE_SECONDS)
    _etcd_everywhere(stage, "start")
    if not acknowledged:
        raise FaultError(f"no row was acknowledged in the last {LATE_SECONDS:g} s without etcd")


def _etcd_everywhere(stage: Stage, verb: str) -> None:
    for host in MEMBERS:
        stage.lab.exec(host, ["systemctl", verb, "--no-block", processes.UNITS["etcd"]])
    stage.lab.progress.line("etcd", f"{verb} on every host")


def postmaster_killed(stage: Stage) -> None:
    """Kill the postmaster of the primary."""
    processes.signal(stage.lab, stage.primary, processes.POSTMASTER, "KILL")


def postmaster_hung(stage: Stage) -> None:
    """Freeze the postmaster of the primary: who is connected works on, nobody else gets in."""
    frozen = processes.signal(stage.lab, stage.primary, processes.POSTMASTER, "STOP")
    stage.hold()
    processes.thaw(stage.lab, stage.primary, frozen)


def disk_full(stage: Stage) -> None:
    """Fill the primary's data disk; make room later."""
    disks.fill(stage.lab, stage.primary)
    stage.hold()
    disks.empty(stage.lab, stage.primary)


def disk_read_only(stage: Stage) -> None:
    """Let the primary's data disk refuse writes; start the host anew once another leads."""
    disks.make_read_only(stage.lab, stage.primary)
    stage.hold()
    stage.lab.kill(stage.primary)
    stage.lab.start(stage.primary)


def disk_hung(stage: Stage) -> None:
    """Let the primary's data disk hang: who writes there waits, and cannot be killed."""
    disks.hang(stage.lab, stage.primary)
    stage.hold()
    disks.resume(stage.lab, stage.primary)
    stage.lab.progress.line(stage.primary, "data disk goes on")


def three_failovers(stage: Stage) -> None:
    """Lose the primary's host, whoever that is, again and again."""
    for _ in range(FAILOVERS):
        leader = stage.await_healthy()
        stage.lab.kill(leader)
        stage.await_commits()
        stage.lab.start(leader)


def all_off(stage: Stage) -> None:
    """Cut the power of all hosts at once and switch them on again."""
    for host in MEMBERS:
        stage.lab.kill(host)
    for host in MEMBERS:
        stage.lab.start(host, wait=False)


LAX: Final = {"synchronous_mode_strict": False}
STRICT: Final = {"synchronous_mode_strict": True}
FAILSAFE: Final = {"failsafe_mode": True}
NO_FAILSAFE: Final = {"failsafe_mode": False}
PEERS_AND_ETCD: Final = faults.Cut(peers=MEMBERS)
PEERS: Final = faults.Cut(peers=MEMBERS, etcd=False)
ETCD: Final = faults.Cut(peers=MEMBERS, etcd=True)
INCOMING: Final = faults.Cut(peers=MEMBERS, way="in")
OUTGOING: Final = faults.Cut(peers=MEMBERS, way="out")
ROWS: Final = (
    Fault("agent_frozen", agent_frozen, seconds=60),
    Fault("agent_held_frozen", agent_held_frozen, seconds=60),
    Fault("agent_killed", agent_killed(KILLS)),
    Fault("agent_stopped", agent_stopped),
    Fault("agent_and_guard_killed", agent_and_guard_killed),
    Fault("agent_and_guard_gone", agent_and_guard_gone),
    Fault("host_paused", host_paused, seconds=30),
    Fault("host_lost", host_lost),
    Fault("cut_from_everybody", cut()),
    Fault("cut_from_peers_and_etcd", cut(PEERS_AND_ETCD)),
    Fault("cut_from_peers", cut(PEERS)),
    Fault("cut_from_etcd", cut(ETCD)),
    Fault("cut_from_etcd_failsafe", cut(ETCD), settings=FAILSAFE),
    Fault("cut_incoming", cut(INCOMING)),
    Fault("cut_outgoing", cut(OUTGOING)),
    Fault("standby_lost", standby_lost),
    Fault("standby_paused", standby_paused),
    Fault("both_standbys_lost", both_standbys_lost, settings=LAX),
    Fault("both_standbys_lost_strict", both_standbys_lost_strict, settings=STRICT),
    Fault("etcd_leader_and_primary_lost", etcd_leader_and_primary_lost),
    Fault("etcd_member_hung", etcd_member_hung, seconds=30),
    Fault("etcd_leader_hung", etcd_leader_hung, seconds=30),
    Fault("etcd_stopped", etcd_stopped, seconds=30, settings=NO_FAILSAFE),
    Fault("etcd_stopped_failsafe", etcd_stopped_failsafe, seconds=30, settings=FAILSAFE),
    Fault("postmaster_killed", postmaster_killed),
    Fault("postmaster_hung", postmaster_hung, seconds=40),
    Fault("disk_full", disk_full, seconds=30),
    Fault("disk_read_only", disk_read_only, seconds=30),
    Fault("disk_hung", disk_hung, seconds=30),
    *handovers.ROWS,
    Fault("three_failovers", three_failovers),
    Fault("all_off", all_off),
)


def find(name: str, **changes: Any) -> Fault:
    """Return the fault called *name*, with *changes*; raises LabError when there is none."""
    for fault in ROWS:
        if fault.name == name:
            return replace(fault, **changes)
    raise LabError(f"There is no fault {name!r}: there are {', '.join(row.name for row in ROWS)}.")
