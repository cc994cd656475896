# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input: one readable sentence, and nothing touched. The bare host ops1 is what gets wrong."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest
import yaml

from lab import Lab, Settings, faults
from lab.cluster import INVENTORY, MEMBERS, Cluster
from lab.playbook import Outcome, other_groups, run
from lab.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS: Final = Settings.from_environment()
SILENT_SECONDS_MAX: Final = 30.0
BARE: Final = "ops1"
MAJOR: Final = {"13": "17", "12": "15"}[SETTINGS.release]
# Connections that each pooler of this release needs to look verifiers up, and so counts.
POOLS: Final = {
    "13": "1 x (2 + 2 x 100) + (2 + 2 x 100) = 404 connections",
    "12": "1 x (2 x 100) + (2 x 100) = 400 connections",
}[SETTINGS.release]
DATA_DIR: Final = f"/var/lib/postgresql/{MAJOR}/demo"
# What a deployment would leave on a host.
TRACES: Final = (
    "/etc/pgherd",
    "/usr/local/bin/pgherd",
    "/usr/bin/etcd",
    "/usr/lib/postgresql",
    "/etc/pgbouncer",
    "/etc/haproxy",
    "/etc/keepalived",
)


@pytest.fixture(scope="module")
def lab() -> Lab:
    """The hosts."""
    return Lab(SETTINGS, Progress(quiet=True))


@pytest.fixture(autouse=True)
def bare_host_stays_bare(lab: Lab) -> Iterator[None]:
    """Whatever was refused, ops1 has no trace of it."""
    yield
    code, found = lab.exec(BARE, ["ls", "-d", *TRACES], check=False)
    assert code != 0
    lines = [line for line in found.splitlines() if not line.startswith("ls: cannot access")]
    assert lines == []


def inventory(
    tmp_path: Path, *, etcd: bool = True, postgres: bool = True, balancer: bool = False
) -> Path:
    """Return an inventory of ops1 alone, in the groups asked for."""
    shared = yaml.safe_load((INVENTORY / "group_vars" / "all.yml").read_text(encoding="utf-8"))
    shared["cluster_secrets_dir"] = str(tmp_path / "secrets")
    # The lab's cluster has it.
    del shared["cluster_vip"]
    asked = {"etcd": etcd, "postgres": postgres, "balancer": balancer}
    groups = [name for name, wanted in asked.items() if wanted]
    tree = {
        "all": {
            "hosts": {BARE: {"lab_host_number": SETTINGS.spec(BARE).number}},
            "children": {name: {"hosts": {BARE: {}}} for name in groups},
            "vars": shared,
        }
    }
    path = tmp_path / "hosts.yml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def refused(outcome: Outcome, *words: str) -> None:
    """Assert that the play failed, changed nothing, and said all of *words*."""
    assert outcome.code != 0, outcome.output[-2000:]
    assert set(outcome.changed.values()) <= {0}, outcome.output[-2000:]
    # Ansible folds long messages; the words are what counts.
    text = " ".join(outcome.output.split())
    for word in words:
        assert word in text, text[-3000:]


def test_inventory_without_postgres(tmp_path: Path) -> None:
    refused(run(inventory=inventory(tmp_path, postgres=False)), "postgres", "no host")


def test_unknown_variable_names_itself_and_its_neighbour(tmp_path: Path) -> None:
    outcome = run(variables={"cluster_rtoo": "fast"}, inventory=inventory(tmp_path))
    refused(outcome, "cluster_rtoo", "cluster_rto")


def test_wrong_value_names_variable_and_choices(tmp_path: Path) -> None:
    outcome = run(variables={"cluster_rto": "warp"}, inventory=inventory(tmp_path))
    refused(outcome, "cluster_rto", "warp", "normal")


def test_rules_of_the_balancer_name_place_and_nearest_key(tmp_path: Path) -> None:
    variables = {"haproxy_acl": [{"listner": "rw", "action": "deny"}]}
    outcome = run(variables=variables, inventory=inventory(tmp_path, balancer=True))
    refused(outcome, "haproxy_acl[0]", "listner", "did you mean listener?")


def test_more_threads_than_haproxy_can_have_are_refused_with_the_range(tmp_path: Path) -> None:
    outcome = run(variables={"haproxy_threads": 65}, inventory=inventory(tmp_path, balancer=True))
    refused(outcome, "haproxy_threads (65) is 0 to 64")


def test_an_address_that_cannot_move_is_refused_with_the_remedy(tmp_path: Path) -> None:
    alone = {"cluster_vip": SETTINGS.vip}
    refused(
        run(variables=alone, inventory=inventory(tmp_path)), "balancer", "cluster_balancer: none"
    )
    outside = {"cluster_vip": "203.0.113.1"}
    outcome = run(variables=outside, inventory=inventory(tmp_path, balancer=True))
    refused(outcome, "cluster_vip: 203.0.113.1 is in no network of ops1", SETTINGS.subnet)


def test_an_address_that_answers_already_is_refused(lab: Lab, tmp_path: Path) -> None:
    # The cluster of the other hosts has it; to this one they are strangers.
    assert lab.exec(MEMBERS[0], ["systemctl", "is-active", "keepalived"])[1].strip() == "active"
    variables = {"cluster_vip": SETTINGS.vip}
    outcome = run(variables=variables, inventory=inventory(tmp_path, balancer=True))
    refused(outcome, f"cluster_vip: {SETTINGS.vip} answers already")


def test_an_address_that_goes_to_other_hosts_of_the_cluster_is_not_refused(tmp_path: Path) -> None:
    groups = {"etcd": MEMBERS, "postgres": MEMBERS, "balancer": [BARE]}
    path = other_groups(SETTINGS, tmp_path / "hosts.yml", groups)
    outcome = run(options=["--tags", "preflight"], inventory=path)
    assert outcome.code == 0, outcome.output[-2000:]


def test_impossible_timings_name_the_inequality(tmp_path: Path) -> None:
    overrides = {"cluster_rto_overrides": {"etcd_heartbeat_ms": 400}}
    refused(run(variables=overrides, inventory=inventory(tmp_path)), "etcd_heartbeat_ms", "400")


def test_unsupported_release(lab: Lab, tmp_path: Path) -> None:
    release = "/usr/lib/os-release"
    change = 's/^VERSION_ID=.*/VERSION_ID="11"/; s/^VERSION_CODENAME=.*/VERSION_CODENAME=bullseye/'
    lab.exec(BARE, ["cp", release, "/root/os-release"])
    lab.exec(BARE, ["sed", "-i", change, release])
    lab.exec(BARE, ["cp", "/etc/debian_version", "/root/debian_version"])
    lab.exec(BARE, ["sh", "-c", "echo 11.11 > /etc/debian_version"])
    try:
        refused(run(inventory=inventory(tmp_path)), "ops1", "Debian 11", "12, 13")
    finally:
        lab.exec(BARE, ["mv", "/root/os-release", release])
        lab.exec(BARE, ["mv", "/root/debian_version", "/etc/debian_version"])


@pytest.mark.parametrize("number", [99, 11], ids=["nobody there", "packets vanish"])
def test_silent_etcd_is_told_within_half_a_minute(lab: Lab, tmp_path: Path, number: int) -> None:
    address = SETTINGS.address("pg1").rpartition(".")[0] + f".{number}"
    variables = {"cluster_etcd_endpoints": [f"{address}:2379"]}
    # Ansible reaches ops1 past the network.
    faults.cut(lab, BARE)
    try:
        started = time.monotonic()
        outcome = run(variables=variables, inventory=inventory(tmp_path, etcd=False))
        took = time.monotonic() - started
    finally:
        faults.heal(lab, BARE)
    refused(outcome, "etcd does not answer", address)
    assert took < SILENT_SECONDS_MAX


def test_data_of_another_cluster_is_refused_and_untouched(lab: Lab, tmp_path: Path) -> None:
    # The identifier is the first field of pg_control, and all that tells clusters apart.
    make = (
        f"mkdir -p {DATA_DIR}/global && echo {MAJOR} > {DATA_DIR}/PG_VERSION && "
        f"printf '\\001\\002\\003\\004\\005\\006\\007\\010' > {DATA_DIR}/global/pg_control"
    )
    look = f"find {DATA_DIR} -printf '%p %s %T@ %m %u\\n' | sort"
    lab.exec(BARE, ["sh", "-c", make])
    before = lab.exec(BARE, ["sh", "-c", look])[1]
    overlay = tmp_path / "more.yml"
    overlay.write_text(f"postgres: {{hosts: {{{BARE}: {{}}}}}}\n", encoding="utf-8")
    try:
        outcome = run(options=["--inventory", str(overlay)])
        after = lab.exec(BARE, ["sh", "-c", look])[1]
    finally:
        lab.exec(BARE, ["rm", "-r", "/var/lib/postgresql"])
    refused(outcome, f"ops1:{DATA_DIR}", "578437695752307201", "move that directory away")
    assert before == after


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"pgbouncer_config": {"max_db_connections": 100}},
            [POOLS, "max_connections 200"],
        ),
        ({"pgbouncer_config": {"pool_mod": "session"}}, ["pool_mod", "did you mean pool_mode?"]),
    ],
)
def test_pools_that_cannot_be_are_refused(
    tmp_path: Path, variables: dict[str, object], words: list[str]
) -> None:
    refused(run(variables=variables, inventory=inventory(tmp_path)), *words)


def test_one_etcd_member_is_allowed_with_a_warning(tmp_path: Path) -> None:
    outcome = run(options=["--check"], inventory=inventory(tmp_path))
    assert outcome.code == 0, outcome.output[-3000:]
    assert "etcd has one member" in " ".join(outcome.output.split())


def test_members_never_noticed(lab: Lab) -> None:
    assert Cluster(SETTINGS).await_healthy(60) in MEMBERS
    for name in MEMBERS:
        assert lab.exec(name, ["systemctl", "is-active", "pgherd", "etcd"])[1].split() == [
            "active",
            "active",
        ]
