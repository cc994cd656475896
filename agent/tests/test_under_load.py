# SPDX-License-Identifier: GPL-3.0-or-later
"""A flood of requests costs a real agent neither its lease nor its memory."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests import flood
from agent.tests.living import Living, living
from pgherd.clock import boottime

if TYPE_CHECKING:
    from agent.tests.etcd_processes import EtcdMember

REQUESTS = 5000
# Several renewals and rounds, however fast the machine answers.
SECONDS = 5.0
# Sockets of the flood's clients, some answers, and what Python does not give back.
GROWTH_MIB = 24


def resident_mib() -> float:
    """Return how much memory this process has."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError


async def flooded(known: Living, program: asyncio.subprocess.Process) -> tuple[Any, list[float]]:
    """Return what the flood saw, and when the lease was renewed meanwhile."""
    renewals: list[float] = [boottime()]
    extend = known.loop._extend_guard

    def note(deadline: float) -> None:
        renewals.append(boottime())
        extend(deadline)

    known.loop.effects.keeper.on_renewal(note)
    out, _ = await program.communicate(f"{known.port}\n".encode())
    renewals.append(boottime())
    return json.loads(out), renewals


@pytest.mark.usefixtures("real_etcd")
async def test_a_flood(etcd_members: list[EtcdMember], capsys: pytest.CaptureFixture[str]) -> None:
    # Before the agent is another user, who might not be able to read the interpreter.
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, flood.__file__, str(REQUESTS), str(SECONDS)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    async with living(etcd_members) as known:
        view, rounds, decisions = known.loop.view, known.loop.rounds, known.loop.decisions
        await asyncio.to_thread(known.status, "/metrics")
        before, spent = resident_mib(), time.process_time()
        told, renewals = await flooded(known, program)
        grown, spent = resident_mib() - before, time.process_time() - spent
        after = known.loop.view
        timing = known.loop.config.timing
        gap = max(later - earlier for earlier, later in pairwise(renewals))
        rounds = known.loop.rounds - rounds
        seconds = told["seconds"]
        asked = sum(told["seen"].values())
        line = (
            f"{asked / seconds:.0f} requests/s for {seconds:.1f} s, "
            f"{1e6 * spent / asked:.0f} us of processor each: {len(renewals) - 2} renewals "
            f"at most {gap:.2f} s apart, {rounds} rounds, {grown:+.1f} MiB"
        )
        with capsys.disabled():
            sys.stdout.write(f"\n{line}\n")
        allowed = {"200", "401", "503"}
        assert asked >= REQUESTS
        assert {answer.split()[-1] for answer in told["seen"]} <= allowed
        assert told["seen"]["GET /primary 200"] >= asked // len(flood.MIX)
        assert told["seen"]["POST /restart 401"] >= asked // len(flood.MIX)
        # The same lead, under the same lease, by the same rule.
        assert view.leader is not None
        assert after.leader == view.leader
        assert known.loop.decisions == decisions
        assert gap < timing.lease_ttl - timing.margin
        assert len(renewals) - 2 >= seconds / timing.keepalive_interval / 2
        assert rounds >= seconds / timing.loop_interval / 4
        assert grown < GROWTH_MIB
