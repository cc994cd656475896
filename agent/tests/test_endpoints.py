# SPDX-License-Identifier: GPL-3.0-or-later
"""`pgherd.endpoints`: what a file may say, what is published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.tests.builders import cluster, config, raw_config
from pgherd.client_config import build_client
from pgherd.config import checked
from pgherd.dynamic_schema import check_dynamic
from pgherd.endpoints import Endpoints
from pgherd.errors import ConfigError
from pgherd.published import cluster_body

WHOLE = {"rw": ["192.0.2.100:5000"], "ro": ["192.0.2.100:5001"], "direct": False}


def test_what_the_file_says_is_published() -> None:
    known = config(pgherd={"endpoints": WHOLE, "lease_ttl": 8})
    assert known.timing.lease_ttl == 8
    assert known.endpoints is not None
    assert cluster_body(cluster(), "demo", known.endpoints)["pgherd"]["endpoints"] == WHOLE


def test_readers_go_where_writers_go_unless_it_is_said() -> None:
    known = Endpoints.parse({"rw": "[fd00::1]:5432, 192.0.2.1:5432", "direct": True})
    assert known == Endpoints((places := ("[fd00::1]:5432", "192.0.2.1:5432")), places, direct=True)


@pytest.mark.parametrize("raw", [None, {}, [], {"ro": ["192.0.2.1:5432"]}])
def test_nothing_is_nothing(raw: Any) -> None:
    assert Endpoints.parse(raw) is None


def test_without_them_nothing_is_published() -> None:
    assert config().endpoints is None
    assert "endpoints" not in cluster_body(cluster(), "demo").get("pgherd", {})


def test_a_client_s_file_may_say_it_too() -> None:
    raw = {"etcd3": {"host": "192.0.2.1:2379"}, "pgherd": {"endpoints": WHOLE}}
    assert build_client(raw, Path()).endpoints == Endpoints.parse(WHOLE)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"ro": ["192.0.2.1:5432"]},
        {"rw": []},
        {"rw": ["192.0.2.1"]},
        {"rw": ["192.0.2.1:5432"], "ro": ["192.0.2.1:0"]},
        {"rw": ["192.0.2.1:5432"], "direct": "yes"},
        {"rw": ["192.0.2.1:5432"], "rx": []},
        ["192.0.2.1:5432"],
    ],
)
def test_what_is_no_such_thing_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"pgherd\.endpoints: must be lists of HOST:PORT"):
        checked(raw_config(pgherd={"endpoints": wrong}))


def test_the_dynamic_configuration_has_none() -> None:
    [problem] = check_dynamic({"pgherd": {"endpoints": WHOLE}}, {})
    assert problem.startswith("pgherd.endpoints: unknown key")
