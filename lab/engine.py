# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to the Docker engine."""

from __future__ import annotations

import docker
from docker.errors import DockerException

from lab.errors import LabError


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
