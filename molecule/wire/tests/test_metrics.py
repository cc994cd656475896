# SPDX-License-Identifier: GPL-3.0-or-later
"""Every series that Patroni's own source names is there, for dashboards and alerts made for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from lab.cluster import CLUSTER_NAME, MEMBERS
from lab.patroni_tools import HOME, HOST

if TYPE_CHECKING:
    from lab import Lab
    from lab.cluster import Cluster
    from lab.patroni_tools import Tools

TYPE: Final = re.compile(r"# TYPE (patroni_\w+) (\w+)")

SAMPLE: Final = re.compile(r"^(patroni_\w+){(.*?)} \S+$", re.MULTILINE)

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("name", MEMBERS)
def test_series_have_patronis_names_types_and_labels(
    tools: Tools, lab: Lab, cluster: Cluster, name: str
) -> None:
    assert tools.listed()
    wanted = dict(TYPE.findall(lab.exec(HOST, ["cat", f"{HOME}/patroni/api.py"])[1]))
    assert len(wanted) > 20
    status, body = cluster.rest(name, "/metrics")
    assert status == 200
    served = dict(TYPE.findall(body))
    assert {series: served.get(series) for series in wanted} == wanted
    samples = {match[1]: match[2] for match in SAMPLE.finditer(body)}
    labels = {f'scope="{CLUSTER_NAME}"', f'name="{name}"'}
    for series in wanted:
        # Counters included: a library for Python would end their names with `_total`.
        assert set(samples[series].split(",")) == labels
