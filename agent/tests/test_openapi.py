# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/openapi.yml describes the REST API that there is: all of it, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from openapi_spec_validator import validate

from agent.tests.builders import (
    ME,
    NOW,
    cluster,
    primary,
    row,
    standby,
    stopped,
    synchronous,
    unlocked,
    view,
)
from agent.tests.openapi import Description
from agent.tests.served import serving
from pgherd import api
from pgherd.health_checks import CHECKS, find_check
from pgherd.model import Instance
from pgherd.settings import Tags

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd.view import View

DESCRIPTION = Description()
PAGES = {*api.QUICK, *api.PAGES, *api.SHARED, "metrics"}
VIEWS = {
    "leader": view(primary(), cluster=cluster(ME, optime=0x3000)),
    "leader with standbys": view(
        primary(replication=(row("pg2", 0x3000),)), cluster=synchronous(ME)
    ),
    "standby": view(cluster=cluster(optime=0x3000)),
    "synchronous standby": view(cluster=synchronous("pg2")),
    "tags": view(tags=Tags(noloadbalance=True, other={"a": [1]})),
    "restart pending": view(
        standby(pending_restart={"max_connections": {"old_value": "100", "new_value": "300"}})
    ),
    "no leader": unlocked(primary()),
    "stopped": view(stopped()),
    "no data": view(Instance()),
    "no etcd": view(cluster=None, store_answers=False),
    "promises": view(
        primary(), cluster=cluster(ME), store_answers=False, lease=None, failsafe_until=NOW + 1
    ),
    "paused": view(cluster=cluster(config={"pause": True})),
}


def test_the_file_is_openapi() -> None:
    validate(DESCRIPTION.raw)


def test_what_changes_something_is_described_and_nothing_else() -> None:
    described = {
        (method, path.split("/")[1])
        for path, method, _ in DESCRIPTION.operations()
        if method not in api.READING
    }
    assert described == {*api.UNSAFE, ("POST", "failsafe")}


def test_all_pages_are_described_and_nothing_else() -> None:
    described = {path.split("/")[1] for path in DESCRIPTION.raw["paths"]}
    checks = {path.strip("/") for path in described if path not in PAGES}
    assert described - checks - {segment for _, segment in api.UNSAFE} <= PAGES
    assert described >= PAGES
    unknown = [path for path in checks if find_check(f"/{path}") is None and not _is_unsafe(path)]
    assert unknown == []
    assert {word for word, _ in CHECKS} <= {*checks, "async", "sync"}


def _is_unsafe(segment: str) -> bool:
    return any(segment == known for _, known in api.UNSAFE)


def test_what_needs_the_password_says_so() -> None:
    for path, method, operation in DESCRIPTION.operations():
        wanted = method not in api.READING and path != "/failsafe"
        assert (operation.get("security") == [{"basic": []}]) is wanted, path
        if wanted:
            assert {"401", "403", "400"} <= set(operation["responses"]), path


@pytest.mark.parametrize("seen", VIEWS.values(), ids=VIEWS)
async def test_answers_are_as_described(tmp_path: Path, seen: View) -> None:
    async with serving(tmp_path) as served:
        served.show(replace(seen))
        for path, method, operation in DESCRIPTION.operations():
            if method in api.READING:
                status, content_type, text = await served.ask(
                    path.replace("{id}", "3f9a1c22"), method
                )
                body = json.loads(text) if content_type == "application/json" and text else text
                DESCRIPTION.check(operation, status, content_type, body)
