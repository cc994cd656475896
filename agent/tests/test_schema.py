# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of a configuration: every problem is one sentence that names its key."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from agent.tests.builders import raw_config
from pgherd.schema import MANAGED_PARAMETERS, SCHEMA, Key, Section, check


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the complete configuration with the key at *path* set to *value*."""
    raw = deepcopy(raw_config())
    *sections, key = path.split(".")
    section = raw
    for name in sections:
        section = section.setdefault(name, {})
    section[key] = value
    return raw


def without(path: str) -> dict[str, Any]:
    """Return the complete configuration without the key at *path*."""
    raw = changed(path, None)
    *sections, key = path.split(".")
    section = raw
    for name in sections:
        section = section[name]
    del section[key]
    return raw


def required(section: Section = SCHEMA, prefix: str = "") -> list[str]:
    """Return the path of every key that must be there."""
    found = []
    for name, spec in section.items():
        if isinstance(spec, Key):
            found += [f"{prefix}{name}"] if spec.required else []
        else:
            found += required(spec, f"{prefix}{name}.")
    return found


def test_a_complete_configuration_has_no_problem() -> None:
    assert check(raw_config(), partial=False) == []


@pytest.mark.parametrize("path", [path for path in required() if ".rewind." not in path])
def test_a_missing_key_is_named(path: str) -> None:
    assert check(without(path), partial=False) == [f"{path}: is missing"]


@pytest.mark.parametrize("section", ["restapi", "etcd3", "postgresql"])
def test_a_missing_section_is_named_by_its_required_keys(section: str) -> None:
    problems = check(without(section), partial=False)
    assert problems == [f"{path}: is missing" for path in required() if path.startswith(section)]


@pytest.mark.parametrize("path", required())
def test_a_fragment_need_not_be_complete(path: str) -> None:
    fragment = without(path) if ".rewind." not in path else raw_config()
    assert check(fragment, partial=True) == []


def test_an_empty_fragment_is_fine() -> None:
    assert check({}, partial=True) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("scope", "a b"),
        ("scope", 7),
        ("name", ""),
        ("name", "../pg1"),
        ("namespace", ""),
        ("runtime_dir", "run"),
        ("restapi.listen", "8008"),
        ("restapi.listen", "192.0.2.1:0"),
        ("restapi.listen", "192.0.2.1:65536"),
        ("restapi.listen", ":8008"),
        ("restapi.connect_address", "192.0.2.1:http"),
        ("restapi.certfile", "cert.pem"),
        ("etcd3.hosts", []),
        ("etcd3.hosts", ["192.0.2.1"]),
        ("etcd3.hosts", "192.0.2.1:2379,"),
        ("etcd3.hosts", {"a": 1}),
        ("etcd3.protocol", "grpc"),
        ("pgherd.lease_ttl", 1),
        ("pgherd.lease_ttl", 5.5),
        ("pgherd.lease_ttl", True),
        ("pgherd.loop_interval", 0),
        ("pgherd.peer_timeout", "1s"),
        ("pgherd.hedge_delay", True),
        ("pgherd.hang_timeout", 0),
        ("watchdog.mode", "always"),
        ("watchdog.mode", True),
        ("watchdog.device", "watchdog"),
        ("bootstrap.dcs", []),
        ("postgresql.listen", "5432"),
        ("postgresql.data_dir", "data"),
        ("postgresql.parameters", ["work_mem"]),
        ("postgresql.pg_hba", "local all all peer"),
        ("postgresql.pg_hba", [1]),
        ("postgresql.authentication.superuser.username", None),
        ("postgresql.keep_diverged.count", -1),
        ("postgresql.keep_diverged.max_mb", 1.5),
        ("fencing.mode", "always"),
        ("fencing.mode", True),
        ("fencing.agent", "bin/fence_ipmilan"),
        ("fencing.agent", ""),
        ("fencing.timeout", 0),
        ("fencing.action", "on"),
        ("tags", ["nofailover"]),
        ("tags", {"nofailover": "no"}),
        ("tags", {"failover_priority": "high"}),
        ("tags", {"failover_priority": True}),
        ("tags", {"nostream": "yes"}),
        ("tags", {"replicatefrom": "not a name"}),
        ("tags", {"replicatefrom": ["pg2"]}),
        ("log.level", "LOUD"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_shown(path: str, value: Any) -> None:
    [problem] = check(changed(path, value), partial=False)
    assert problem.startswith(f"{path}: must be ")
    assert problem.endswith(f"not {value!r}")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("etcd3.hosts", "192.0.2.1:2379,192.0.2.2:2379"),
        ("etcd3.protocol", "https"),
        ("namespace", "/service/"),
        ("pgherd.lease_ttl", 2),
        ("postgresql.listen", "192.0.2.1,127.0.0.1:5432"),
        ("postgresql.keep_diverged", {"count": 0, "max_mb": 0}),
        ("fencing.mode", False),
        ("fencing", {"mode": "off", "agent": "fence_none", "hosts": {}}),
        ("fencing", {"mode": "required", "agent": "true", "hosts": {"pg1": {"plug": 1}}}),
        ("fencing", {"mode": "best_effort", "agent": "/bin/true", "hosts": {"pg1": {}}}),
        ("tags", {"failover_priority": 0, "nofailover": True, "rack": ["r", 1]}),
        ("tags", {"nostream": True, "replicatefrom": "pg2"}),
        ("tags", {"replicatefrom": None}),
    ],
)
def test_a_good_value_is_no_problem(path: str, value: Any) -> None:
    raw = changed(path, value)
    if path == "pgherd.lease_ttl":
        raw["pgherd"] |= {"keepalive_interval": 0.4, "etcd_timeout": 0.5}
    assert check(raw, partial=False) == []


def test_a_password_is_never_shown() -> None:
    path = "postgresql.authentication.superuser.password"
    [problem] = check(changed(path, 8675309), partial=False)
    assert problem == f"{path}: must be a non-empty string, not the value given"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("fencing.options", ["password=8675309"]),
        ("fencing.options", {"password": "8675309", "action": "on"}),
        ("fencing.options", {"password": "8675309\naction=on"}),
        ("fencing.options", {"pass word": "8675309"}),
        ("fencing.options", {"password": None, "ip": "8675309"}),
        ("fencing.hosts", ["8675309"]),
        ("fencing.hosts", {"pg1": "8675309"}),
        ("fencing.hosts", {"pg 1": {"password": "8675309"}}),
        ("fencing.hosts", {"pg1": {"nodename": "8675309"}}),
    ],
)
def test_a_fence_agents_wrong_options_are_named_and_not_shown(path: str, value: Any) -> None:
    [problem] = check(changed(path, value), partial=False)
    assert problem.startswith(f"{path}: must be a mapping")
    assert "8675309" not in problem


@pytest.mark.parametrize(
    ("fencing", "told"),
    [
        ({"mode": "required", "hosts": {"pg1": {}}}, "fencing.agent: is missing"),
        ({"mode": "required", "agent": "true"}, "fencing.hosts: is missing"),
        (
            {"mode": "best_effort", "agent": "fence_none", "hosts": {"pg1": {}}},
            "fencing.agent: there is no program fence_none",
        ),
        (
            {"mode": "best_effort", "agent": "/etc/passwd", "hosts": {"pg1": {}}},
            "fencing.agent: there is no program /etc/passwd",
        ),
    ],
)
def test_fencing_that_cannot_work_is_refused(fencing: dict[str, Any], told: str) -> None:
    [problem] = check(raw_config(fencing=fencing), partial=False)
    assert problem.startswith(told)
    assert check({"fencing": fencing}, partial=True) == []


@pytest.mark.parametrize("section", ["restapi", "pgherd", "postgresql.authentication"])
@pytest.mark.parametrize("value", [None, [], "x"])
def test_a_section_that_is_no_mapping_is_named(section: str, value: Any) -> None:
    assert check(changed(section, value), partial=False) == [
        f"{section}: must be a mapping, not {value!r}"
    ]


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("scoop", "; did you mean `scope`?"),
        ("postgresql.datadir", "; did you mean `postgresql.data_dir`?"),
        ("restapi.liste", "; did you mean `restapi.listen`?"),
        ("zzz", ""),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_right_one(path: str, hint: str) -> None:
    assert check(changed(path, 1), partial=False) == [f"{path}: unknown key{hint}"]


def test_every_problem_is_told_at_once() -> None:
    raw = changed("scope", "")
    raw["restapi"]["listen"] = "x"
    del raw["name"]
    told = [problem.partition(":")[0] for problem in check(raw, partial=False)]
    assert sorted(told) == ["name", "restapi.listen", "scope"]


@pytest.mark.parametrize(
    ("timing", "path"),
    [
        ({"lease_ttl": 2}, "pgherd.keepalive_interval"),
        ({"lease_ttl": 4, "keepalive_interval": 1.01}, "pgherd.keepalive_interval"),
        ({"lease_ttl": 2, "keepalive_interval": 0.5, "etcd_timeout": 1.5}, "pgherd.etcd_timeout"),
    ],
)
def test_timings_that_cannot_work_are_refused_with_the_inequality(
    timing: dict[str, Any], path: str
) -> None:
    problems = check(raw_config(pgherd=timing), partial=False)
    assert problems[0].startswith(f"{path}: ")
    assert "pgherd.lease_ttl" in problems[0]


@pytest.mark.parametrize(
    "timing",
    [
        {},
        {"lease_ttl": 4, "keepalive_interval": 1},
        {"lease_ttl": 2, "keepalive_interval": 0.5, "etcd_timeout": 1.49},
        {"lease_ttl": 30, "keepalive_interval": 5, "etcd_timeout": 5},
    ],
)
def test_timings_that_can_work_are_no_problem(timing: dict[str, Any]) -> None:
    assert check(raw_config(pgherd=timing), partial=False) == []


@pytest.mark.parametrize("section", ["parameters", "default_parameters"])
@pytest.mark.parametrize("name", sorted(MANAGED_PARAMETERS))
def test_a_parameter_that_is_the_agents_cannot_be_given(section: str, name: str) -> None:
    raw = changed(f"postgresql.{section}", {name: "x", "work_mem": "8MB"})
    [problem] = check(raw, partial=False)
    assert problem.startswith(f"postgresql.{section}.{name}: ")
