# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m lab.demo`: from a Docker engine to a running cluster, each stage with its time.

Every stage leaves alone what is done already, so a rerun takes up where the last one stopped.
Exit code 2 when the lab cannot be made, that of ansible-playbook when the playbook fails.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Final

from lab.cluster import MEMBERS, REPOSITORY, SECRET, SUPERUSER, Cluster
from lab.entrance import RO, RW
from lab.errors import LabError
from lab.hosts import Lab
from lab.playbook import SITE, command, environment

TASK: Final = re.compile(r"^(TASK|RUNNING HANDLER) \[(?:\S+\.)?(?P<role>\w+) : ")
PLAY: Final = re.compile(r"^PLAY \[(?P<name>.*)\]")
LOG: Final = REPOSITORY / ".ansible" / "demo.log"
TAIL_LINES: Final = 60
HEALTHY_SECONDS_MAX: Final = 60.0


def deploy(lab: Lab) -> int:
    """Run site.yml, with a line for every play and role; return ansible-playbook's exit code.

    All it prints goes to a log, whose last lines are shown when it fails.
    """
    LOG.parent.mkdir(exist_ok=True)
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    shown = ""
    with (
        LOG.open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command(),
            cwd=REPOSITORY,
            env={**environment(), **lab.settings.environment()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            tail.append(line)
            subject = _subject(line)
            if subject and subject != shown:
                shown = subject
                lab.progress.line("site.yml", subject)
    if process.returncode != 0:
        sys.stdout.writelines(tail)
        lab.progress.line("site.yml", f"failed; all of it: {LOG.relative_to(REPOSITORY)}")
    else:
        lab.progress.line("site.yml", "done")
    return process.returncode


def _subject(line: str) -> str:
    """Return what a line of ansible-playbook begins: `play: ...`, `role ...`, or nothing."""
    play = PLAY.match(line)
    if play:
        return play["name"]
    task = TASK.match(line)
    return f"  role {task['role']}" if task else ""


def farewell(lab: Lab) -> str:
    """Return what the user sees last: the members' table and the commands to try."""
    cluster = Cluster(lab.settings)
    leader = cluster.await_healthy(HEALTHY_SECONDS_MAX)
    witness = next(host for host in MEMBERS if host != leader)
    # In a container its output is no terminal, but ours may be one.
    look = ["env", "FORCE_COLOR=1"] if sys.stdout.isatty() else []
    table = lab.exec(MEMBERS[0], [*look, "pgherd", "list"])[1]
    secret = SECRET
    if secret.is_relative_to(Path.cwd()):
        secret = secret.relative_to(Path.cwd())
    hosts = ",".join(lab.settings.address(host) for host in MEMBERS)
    psql = (
        f"PGPASSWORD=$(cat {secret}) psql "
        f'"host={hosts} user={SUPERUSER} dbname=postgres target_session_attrs=read-write"'
    )
    vip = lab.settings.vip
    return (
        f"\n{table}\nApplications come in at {vip}:{RW} to write, at {vip}:{RO} to read.\n"
        f"Try it:\n  {psql}\n"
        f"Lose the primary, and see another take over:\n"
        f"  .venv/bin/python -m lab kill {leader}; "
        f"docker exec -it {lab.settings.container(witness)} pgherd list -w\n"
    )


def main() -> int:
    """Make the hosts, deploy, show the cluster; return the exit code."""
    try:
        lab = Lab()
        lab.up()
        lab.progress.line("site.yml", f"{SITE} over inventories/lab")
        code = deploy(lab)
        if code == 0:
            sys.stdout.write(farewell(lab))
            lab.progress.line("demo", "done")
    except LabError as error:
        sys.stderr.write(f"demo: {error}\n")
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
