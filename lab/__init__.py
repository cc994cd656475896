# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: systemd hosts on a Docker engine, made from Debian packages and broken on purpose."""

from lab.errors import LabError
from lab.hosts import Lab
from lab.settings import HOSTS, HostSpec, Settings

__all__ = ["HOSTS", "HostSpec", "Lab", "LabError", "Settings"]
