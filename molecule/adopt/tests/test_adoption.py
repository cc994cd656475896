# SPDX-License-Identifier: GPL-3.0-or-later
"""A Patroni cluster under writing clients is taken over by the playbook, and given back.

The tests are one story, told in the order of this file.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest
import yaml

from lab import Lab, Settings
from lab.cluster import MEMBERS
from lab.load import under_load
from lab.patroni import CONFIG, HEALTHY_SECONDS_MAX, INVENTORY, OURS, UNIT, Patroni
from lab.playbook import SITE, Outcome, run
from lab.stage import Account, await_synchronous
from lab.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(1200)

# What decides how soon a lost peer is noticed is pgherd's own, and where a process keeps its files.
OURS_TO_CHANGE: Final = (
    "primary_conninfo", "primary_slot_name", "config_file", "hba_file", "ident_file",
    "unix_socket_directories", "recovery_target%", "wal_receiver%", "wal_sender_timeout",
    "wal_retrieve_retry_interval", "tcp_%", "synchronous_standby_names", "in_hot_standby",
    "transaction_read_only", "application_name",
)  # fmt: skip
SETTINGS: Final = (
    "SELECT name, setting FROM pg_settings WHERE NOT name LIKE ANY ('{"
    + ",".join(OURS_TO_CHANGE)
    + "}') ORDER BY name"
)
ROLES: Final = "SELECT rolname, rolpassword, rolsuper, rolreplication FROM pg_authid ORDER BY 1"
RULES: Final = (
    "SELECT type, database, user_name, address, auth_method FROM pg_hba_file_rules "
    "WHERE error IS NULL ORDER BY rule_number"
)
SLOTS: Final = "SELECT slot_name FROM pg_replication_slots WHERE slot_name = 'kept_by_hand'"
IDENTIFIER: Final = "SELECT system_identifier FROM pg_control_system()"
TIMELINE: Final = "SELECT timeline_id FROM pg_control_checkpoint()"


@dataclass(frozen=True)
class Traits:
    """What has to be the same afterwards on a host: as the host itself and its server say."""

    settings: dict[str, str]
    roles: list[tuple[str, ...]]
    rules: list[tuple[str, ...]]
    identifier: str
    made: str


@dataclass(frozen=True)
class Takeover:
    """What a takeover did, and what it cost the clients."""

    outcome: Outcome
    cost: Account


@pytest.fixture(scope="module")
def patroni() -> Patroni:
    """The cluster that was made."""
    lab = Lab(Settings.from_environment())
    if lab.settings.release == "12":
        pytest.skip("Patroni 3.0 of Debian 12 does not publish the state of replication")
    found = Patroni(lab)
    found.cluster.await_healthy(HEALTHY_SECONDS_MAX)
    return found


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the playbook writes what it found."""
    return tmp_path_factory.mktemp("adopted")


def traits(patroni: Patroni, host: str) -> Traits:
    """Return *host*'s traits now."""
    cluster = patroni.cluster
    data_dir = patroni.configuration(host, {})["postgresql"]["data_dir"]
    made = patroni.lab.exec(host, ["stat", "--format=%i %W", f"{data_dir}/PG_VERSION"])[1]
    return Traits(
        settings={row[0]: row[1] for row in cluster.query(host, SETTINGS)},
        roles=cluster.query(host, ROLES),
        rules=cluster.query(host, RULES),
        identifier=cluster.query(host, IDENTIFIER)[0][0],
        made=made,
    )


@pytest.fixture(scope="module")
def before(patroni: Patroni) -> dict[str, Traits]:
    """The traits of every host under Patroni."""
    return {host: traits(patroni, host) for host in MEMBERS}


def timeline(patroni: Patroni) -> int:
    """Return the timeline of the primary."""
    leader = patroni.cluster.await_healthy(HEALTHY_SECONDS_MAX)
    return int(patroni.cluster.query(leader, "CHECKPOINT;" + TIMELINE, 60)[0][0])


def show(cost: Account) -> None:
    """Print what something cost the clients."""
    sys.stdout.write(
        f"\n{cost.fault}: {cost.gap:.2f} s without a commit, {cost.lost} of "
        f"{cost.acknowledged} rows lost, {cost.before} to {cost.after}\n"
    )


def runs(patroni: Patroni, host: str, unit: str) -> bool:
    """Whether *unit* runs on *host* and would after a start of the host."""
    words = [
        patroni.lab.exec(host, ["systemctl", verb, unit], check=False)[1].split()[-1]
        for verb in ("is-active", "is-enabled")
    ]
    assert words in (["active", "enabled"], ["inactive", "disabled"]), (host, unit, words)
    return words == ["active", "enabled"]


@pytest.fixture
def citus(patroni: Patroni) -> Iterator[str]:
    """Have the configuration of one host ask for Citus; the host."""
    host = MEMBERS[2]
    patroni.lab.exec(host, ["cp", CONFIG, "/root/config.yml"])
    patroni.lab.exec(host, ["sh", "-c", f"printf 'citus: {{group: 0}}\\n' >> {CONFIG}"])
    yield host
    patroni.lab.exec(host, ["sh", "-c", f"cat /root/config.yml > {CONFIG}"])


def test_what_cannot_be_taken_over_is_refused_and_nothing_is_touched(
    patroni: Patroni, citus: str, places: Path
) -> None:
    outcome = patroni.adopt(places)
    text = " ".join(outcome.output.split())
    assert outcome.code != 0
    assert f"{citus}: Citus is not supported" in text
    assert set(outcome.changed.values()) == {0}
    assert list(places.iterdir()) == []
    for host in MEMBERS:
        assert runs(patroni, host, UNIT)
        assert patroni.lab.exec(host, ["test", "-e", "/etc/pgherd"], check=False)[0] != 0


@pytest.fixture(scope="module")
def takeover(patroni: Patroni, before: dict[str, Traits], places: Path) -> Takeover:
    """Take the cluster over while clients write."""
    assert set(before) == set(MEMBERS)
    found: list[Outcome] = []
    first = timeline(patroni)
    await_synchronous(patroni.cluster, Store(patroni.lab))
    cost = under_load(
        patroni.lab, patroni.cluster, "takeover", lambda: found.append(patroni.adopt(places))
    )
    assert found[0].code == 0, found[0].output[-4000:]
    show(cost)
    assert timeline(patroni) == first + 1, "there was more than one switchover"
    return Takeover(found[0], cost)


def test_no_row_is_lost_and_one_node_acknowledges_at_a_time(takeover: Takeover) -> None:
    assert takeover.cost.problems == ()
    assert takeover.cost.before != takeover.cost.after


def test_pgherd_runs_every_host_and_patroni_none(patroni: Patroni, takeover: Takeover) -> None:
    assert takeover.outcome.code == 0
    for host in MEMBERS:
        assert not runs(patroni, host, UNIT)
        assert all(runs(patroni, host, unit) for unit in OURS)
        assert "pgherd" in json.loads(patroni.cluster.rest(host, "/patroni")[1])


@pytest.mark.parametrize("host", MEMBERS)
def test_etcd_is_reached_as_patroni_reached_it(
    patroni: Patroni, takeover: Takeover, host: str
) -> None:
    assert takeover.outcome.code == 0
    theirs = yaml.safe_load(patroni.lab.exec(host, ["cat", CONFIG])[1])["etcd3"]
    ours = yaml.safe_load(patroni.lab.exec(host, ["cat", "/etc/pgherd/pgherd.yml"])[1])["etcd3"]
    assert ours == theirs
    assert ours["protocol"] == "https"


@pytest.mark.parametrize("host", MEMBERS)
def test_data_accounts_rules_and_settings_are_the_same(
    patroni: Patroni, before: dict[str, Traits], takeover: Takeover, host: str
) -> None:
    assert takeover.outcome.code == 0
    now, then = traits(patroni, host), before[host]
    assert (now.identifier, now.made) == (then.identifier, then.made)
    assert now.roles == then.roles
    assert now.rules[-len(then.rules) :] == then.rules
    assert {
        name: value for name, value in now.settings.items() if value != then.settings[name]
    } == {}


def test_a_slot_of_the_dynamic_configuration_is_still_there(
    patroni: Patroni, takeover: Takeover
) -> None:
    assert patroni.cluster.query(takeover.cost.after, SLOTS) == [("kept_by_hand",)]


def test_a_second_run_changes_nothing(patroni: Patroni, takeover: Takeover, places: Path) -> None:
    assert takeover.outcome.code == 0
    again = patroni.adopt(places)
    assert (again.code, set(again.changed.values())) == (0, {0}), again.output[-4000:]


def test_the_site_goes_on_from_there_and_changes_nothing(takeover: Takeover, places: Path) -> None:
    assert takeover.outcome.code == 0
    beside = ("--inventory", str(places / "adopted.yml"))
    secrets = {"cluster_secrets_dir": str(places / "secrets")}
    site = run(SITE, secrets, beside, INVENTORY)
    assert (site.code, set(site.changed.values())) == (0, {0}), site.output[-4000:]


def test_one_host_goes_back_and_comes_over_again(
    patroni: Patroni, takeover: Takeover, places: Path
) -> None:
    host = next(member for member in MEMBERS if member != takeover.cost.after)
    patroni.give_back(host)
    assert runs(patroni, host, UNIT)
    again = patroni.adopt(places)
    assert again.code == 0, again.output[-4000:]
    assert not runs(patroni, host, UNIT)
    assert patroni.cluster.await_healthy(HEALTHY_SECONDS_MAX) == takeover.cost.after


def test_all_hosts_go_back_and_no_row_is_lost(
    patroni: Patroni, before: dict[str, Traits], takeover: Takeover
) -> None:
    assert takeover.outcome.code == 0
    leader = await_synchronous(patroni.cluster, Store(patroni.lab))

    def go_back() -> None:
        standbys = [member for member in MEMBERS if member != leader]
        for host in standbys:
            patroni.give_back(host)
        await_synchronous(patroni.cluster, Store(patroni.lab))
        patroni.switchover(leader, standbys[0])
        patroni.cluster.await_healthy(HEALTHY_SECONDS_MAX)
        patroni.give_back(leader)

    cost = under_load(patroni.lab, patroni.cluster, "way back", go_back)
    show(cost)
    assert cost.problems == ()
    for host in MEMBERS:
        assert runs(patroni, host, UNIT)
        assert not any(runs(patroni, host, unit) for unit in OURS)
        assert traits(patroni, host) == before[host]
