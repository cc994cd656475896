# SPDX-License-Identifier: GPL-3.0-or-later
"""A host: its clock, its PostgreSQL, its guard, and the agent process that may come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.tests.sim.agent import AgentProcess
from agent.tests.sim.aio import ROUNDING
from agent.tests.sim.server import Server
from pgherd.guard import GuardState

if TYPE_CHECKING:
    from agent.tests.sim.checks import Checks
    from agent.tests.sim.etcd_service import EtcdService
    from agent.tests.sim.net import Network
    from agent.tests.sim.world import World
    from pgherd.config import Config

# systemd starts what has ended again after this long at most, seconds.
RESTART = 1.0


class MemoryFile:
    """A file of one host, as far as the lease keeper uses one."""

    def __init__(self) -> None:
        self.content: str | None = None

    def read_text(self) -> str:
        if self.content is None:
            raise FileNotFoundError("no such file")
        return self.content

    def write(self, content: str) -> bool:
        self.content = content
        return True

    def unlink(self, missing_ok: bool = False) -> None:
        self.content = None


class SimGuard:
    """The guard process of one host: it kills at the deadline, whatever the agent does.

    Its order outlives it, as the file in which it keeps it does.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self.deadline: float | None = None
        self.is_up = True
        self.is_blind = False

    def arm(self, deadline: float) -> None:
        """PostgreSQL may be a primary until *deadline* on the host's clock."""
        self.deadline = deadline
        self._host.world.at(self._host.when(deadline), self.look, deadline)

    def disarm(self) -> None:
        """There is nothing to guard."""
        self.deadline = None

    @property
    def state(self) -> GuardState:
        """What the agent knows of this process."""
        return GuardState(connected=self.is_up)

    def look(self, deadline: float | None = None) -> None:
        """Kill if the deadline has passed; *deadline* says which one this look is for."""
        stale = deadline is not None and deadline != self.deadline
        waits = self.deadline is None or stale
        if self.is_blind or waits or not self.is_up or self._host.is_paused:
            return
        assert self.deadline is not None
        if self._host.clock() + ROUNDING >= self.deadline:
            self.deadline = None
            self._host.server.end("killed by the guard: the lease has run out")

    def kill(self) -> None:
        """End the guard; systemd starts it again."""
        if self.is_up:
            self.is_up = False
            self._host.world.note(self._host.name, "guard is killed")
            self._host.world.after(0.1 + 0.04 * self._host.world.noise.random(), self._start)

    def _start(self) -> None:
        self.is_up = True
        self.look()


class Host:
    """One host with a member on it.

    :param rate: how fast its clock runs; 1 is right.
    """

    def __init__(
        self,
        world: World,
        net: Network,
        etcd: EtcdService,
        config: Config,
        checks: Checks,
        rate: float,
    ) -> None:
        self.world = world
        self.net = net
        self.etcd = etcd
        self.config = config
        self.name = config.name
        self.rate = rate
        self.boots = 1
        self.server = Server(world, net, self.name, checks)
        self.guard = SimGuard(self)
        self.lease_file = MemoryFile()
        self.hosts: dict[str, Host] = {}
        self.agent: AgentProcess | None = None
        self._dead: list[AgentProcess] = []
        self.is_up = True
        self.is_paused = False
        self.is_disabled = False
        self.is_gone = False
        self._booted_at = -1000.0 * (1 + world.noise.random())

    def clock(self) -> float:
        """CLOCK_BOOTTIME of this host."""
        return (self.world.now - self._booted_at) * self.rate

    def when(self, reading: float) -> float:
        """Return the world's time at which the clock shows *reading*."""
        return self._booted_at + reading / self.rate

    def note(self, what: str) -> None:
        self.world.note(self.name, what)

    # The agent

    def start_agent(self) -> None:
        """Start the agent unless it runs, or may not now."""
        if self.is_up and not self.is_paused and not self.is_disabled and self.agent is None:
            self.note("agent starts")
            self.agent = AgentProcess(self)

    def kill_agent(self) -> None:
        """Kill the agent; systemd starts it again."""
        if self.agent is not None:
            self.note("agent is killed")
            self._end_agent()
            self.restart_agent()

    def _end_agent(self) -> None:
        if self.agent is not None:
            self.agent.kill()
            self._dead.append(self.agent)
            self.agent = None
        self.server.on_death = lambda: None
        self.etcd.forget(self.name)

    def end(self) -> None:
        """The history is over."""
        self.is_disabled = True
        self._end_agent()

    def restart_agent(self) -> None:
        """Start the agent as systemd does, a moment after it ended."""
        self.world.after(0.1 + RESTART * self.world.noise.random(), self.start_agent)

    def agent_ended(self, agent: AgentProcess) -> None:
        """The agent has ended by itself."""
        if self.agent is agent:
            self.note("agent has ended")
            self._end_agent()
            self.restart_agent()

    # The host as a whole

    def lose_power(self) -> None:
        """Everything ends at once; what was flushed stays."""
        if self.is_up:
            self.note("host has lost its power")
            self.is_up = self.is_paused = False
            self._end_agent()
            self.guard.deadline = None
            self.lease_file.unlink()
            self.server.end("no power", power=True)
            self.etcd.lose(self.name)

    def boot(self) -> None:
        """Come back: etcd and the agent start, PostgreSQL is the agent's to start."""
        if not self.is_up and not self.is_gone:
            self.note("host boots")
            self.is_up = True
            self.boots += 1
            self._booted_at = self.world.now - 5
            self.guard.is_up = True
            self.world.after(self.world.noise.random(), self.etcd.come_back, self.name)
            self.world.after(0.5 + self.world.noise.random(), self.start_agent)

    def pause(self) -> None:
        """Freeze everything on the host; its clock goes on."""
        if self.is_up and not self.is_paused:
            self.note("host is paused")
            self.is_paused = True
            self.server.suspend()
            self.etcd.hang(self.name, True)
            if self.agent is not None:
                self.agent.loop.freeze()

    def resume(self) -> None:
        """Let it go on, the guard first: its timer is the oldest that has come due."""
        if self.is_paused:
            self.note("host goes on")
            self.is_paused = False
            self.guard.look()
            self.etcd.hang(self.name, False)
            self.server.resume()
            if self.agent is not None:
                self.agent.loop.thaw()
            else:
                self.start_agent()
