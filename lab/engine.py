# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to the Docker engine."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import docker
from docker.errors import DockerException

from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Sequence


def connect(timeout_seconds: float = 60) -> docker.DockerClient:
    """Return a client of the engine that DOCKER_HOST names, or of the local one.

    Raises LabError when no engine answers.
    """
    try:
        client = docker.from_env(timeout=timeout_seconds)
        client.ping()
    except DockerException as error:
        raise LabError(
            "No Docker engine answers: install one (Debian: apt-get install docker.io), start it "
            "(systemctl start docker) and run as root or as a member of the group docker, or name "
            f"another engine in DOCKER_HOST. [{error}]"
        ) from error
    return client


def execute(container: str, command: Sequence[str], *, user: str = "root") -> tuple[int, str]:
    """Run *command* in a container; return its exit code and output, standard error included.

    It goes by the docker command, not by the SDK: on a busy machine the SDK loses what arrives
    together with the answer's header (seen: 1 of 20 short outputs).
    Raises LabError when there is no docker command.
    """
    try:
        done = subprocess.run(
            ["docker", "exec", "--user", user, container, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(
            "There is no docker command: install it (Debian: apt-get install docker-cli, or "
            "docker.io before Debian 13)."
        ) from error
    return done.returncode, done.stdout
