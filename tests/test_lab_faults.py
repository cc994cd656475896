# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's faults are accounted by: who acknowledged when, what is missing, the table."""

from __future__ import annotations

import pytest

from lab import Settings, store
from lab.acknowledge import Ack, Term, longest_gap, overlap, parse, terms
from lab.faults import CHAIN, Cut
from lab.image import DATA_MOUNT, init
from lab.rows import ROWS
from lab.settings import HOST_NAMES
from lab.stage import Account, account


def ack(node: str, timeline: int, sent: float, at: float | None = None) -> Ack:
    """Return an acknowledgement, read 10 ms after its statement was sent unless *at* says when."""
    return Ack(node, timeline, int(sent * 1e9), sent, sent + 0.01 if at is None else at)


def test_terms_that_follow_each_other_do_not_overlap() -> None:
    acks = [ack("pg1", 1, 10), ack("pg1", 1, 11), ack("pg2", 2, 15), ack("pg2", 2, 16)]
    assert terms(acks) == [Term("pg1", 1, 10.01, 11), Term("pg2", 2, 15.01, 16)]
    assert overlap(acks) == 0


def test_a_node_may_lead_again_on_a_later_timeline() -> None:
    acks = [ack("pg1", 1, 10), ack("pg2", 2, 15), ack("pg2", 2, 16), ack("pg1", 3, 20)]
    assert overlap(acks) == 0


def test_two_nodes_that_acknowledge_at_once_are_seen_for_as_long_as_they_do() -> None:
    old = [ack("pg1", 1, second) for second in (10, 12, 25)]
    new = [ack("pg2", 2, second) for second in (20, 23, 40)]
    assert overlap([*new, *old]) == pytest.approx(25 - 20.01)


def test_two_nodes_on_one_timeline_are_two_primaries_all_the_same() -> None:
    acks = [ack("pg1", 1, 10), ack("pg1", 1, 14), ack("pg2", 1, 12), ack("pg2", 1, 13)]
    assert overlap(acks) == pytest.approx(13 - 12.01)


def test_a_statement_in_flight_during_the_change_is_no_overlap() -> None:
    """Sent before the new leader acknowledged, read long after: a host that was paused."""
    acks = [ack("pg1", 1, 10), ack("pg1", 1, 11, at=60), ack("pg2", 2, 15), ack("pg2", 2, 50)]
    assert overlap(acks) == 0


def test_time_in_which_three_acknowledge_counts_once() -> None:
    acks = [ack(node, number, second) for number, node in enumerate("abc") for second in (10, 20)]
    assert overlap(acks) == pytest.approx(20 - 10.01)


def test_nothing_acknowledged_is_no_overlap_and_no_gap() -> None:
    assert overlap([]) == 0
    assert longest_gap([]) == 0
    assert longest_gap([3.0, 1.0, 1.5]) == 1.5


def test_a_log_that_ends_in_the_middle_of_a_line_keeps_the_lines_before() -> None:
    text = "1000000000 1010000000 7\n2000000000 2010000000 8\n3000000000 30"
    acks = parse("pg1", text)
    assert [(ack.node, ack.timeline, ack.number) for ack in acks] == [
        ("pg1", 7, 1000000000),
        ("pg1", 8, 2000000000),
    ]
    assert [ack.sent for ack in acks] == pytest.approx([1.0, 2.0])
    assert [ack.at for ack in acks] == pytest.approx([1.01, 2.01])


def test_rows_that_were_acknowledged_and_are_gone_are_lost_whoever_wrote_them() -> None:
    inside = [ack("pg1", 1, 10), ack("pg2", 2, 11)]
    outside = [Ack("pg1", 1, 1, 10, 10.01), Ack("pg2", 2, 2, 12, 12.01)]
    there = {("pg1", inside[0].number)}
    cost = account("fault", inside, outside, there, {1})
    assert (cost.acknowledged, cost.lost, cost.overlap) == (4, 2, 0)
    assert cost.gap == pytest.approx(2)
    assert cost.problems == ("2 acknowledged rows lost",)


def test_a_client_that_saw_nothing_acknowledged_is_a_failure() -> None:
    outside = [Ack("pg1", 1, 1, 10, 10.01)]
    cost = account("fault", [], outside, set(), {1})
    assert cost.problems == ("nothing of the writers was acknowledged",)


def test_what_is_wrong_is_said() -> None:
    bad = Account(
        "agent_frozen", gap=0.1, acknowledged=12000, lost=439, overlap=19, failure="broke"
    )
    assert Account("host_lost").problems == ()
    assert bad.problems == (
        "broke",
        "439 acknowledged rows lost",
        "two nodes acknowledged for 19.00 s",
    )


def test_every_fault_has_a_name_of_its_own_and_says_what_it_does() -> None:
    assert len({fault.name for fault in ROWS}) == len(ROWS)
    assert all(fault.act.__doc__ for fault in ROWS)


SETTINGS = Settings(subnet="10.1.2.0/24")


def test_a_cut_from_everybody_drops_all_but_the_loopback_both_ways() -> None:
    assert Cut().rules(SETTINGS, "pg1") == [
        ["-N", CHAIN],
        ["-A", CHAIN, "-j", "DROP"],
        ["-I", "INPUT", "!", "-i", "lo", "-j", CHAIN],
        ["-I", "OUTPUT", "!", "-o", "lo", "-j", CHAIN],
    ]


def test_a_cut_in_one_direction_leaves_the_other_open() -> None:
    incoming = Cut(way="in").rules(SETTINGS, "pg1")
    outgoing = Cut(way="out").rules(SETTINGS, "pg1")
    assert [rule[1] for rule in incoming if rule[0] == "-I"] == ["INPUT"]
    assert [rule[1] for rule in outgoing if rule[0] == "-I"] == ["OUTPUT"]


def test_a_cut_from_peers_names_their_addresses_and_not_its_own() -> None:
    drops = [rule for rule in Cut(peers=HOST_NAMES).rules(SETTINGS, "pg1") if rule[-1] == "DROP"]
    assert {rule[3] for rule in drops} == {"10.1.2.12", "10.1.2.13", "10.1.2.21"}
    assert {rule[2] for rule in drops} == {"-s", "-d"}


def test_a_cut_from_etcd_is_about_its_ports_and_one_from_all_but_etcd_spares_them() -> None:
    only = Cut(peers=["pg2"], etcd=True).rules(SETTINGS, "pg1")
    spared = Cut(peers=["pg2"], etcd=False).rules(SETTINGS, "pg1")
    assert all("2379,2380" in rule for rule in only if rule[-1] == "DROP")
    assert [rule[-1] for rule in spared if "2379,2380" in rule] == ["RETURN", "RETURN"]
    assert [rule[-1] for rule in spared if rule[0] == "-A"] == ["RETURN"] * 2 + ["DROP"] * 2


def test_a_data_disk_is_mounted_before_systemd_only_where_asked_for() -> None:
    assert DATA_MOUNT not in init(Settings())
    script = init(Settings(data_disk=True))
    assert script.index(f" {DATA_MOUNT} ") < script.index("exec /lib/systemd/systemd")


@pytest.mark.parametrize(("value", "wanted"), [("1", True), ("0", False), ("", False)])
def test_the_environment_asks_for_a_data_disk(
    value: str, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHERD_LAB_DATA_DISK", value)
    assert Settings.from_environment().data_disk is wanted


def test_a_value_of_etcd_is_found_behind_a_warning() -> None:
    warning = '{"level":"warn","msg":"retrying of unary invoker failed"}'
    assert store.parse(f'{warning}\n{{"quorum":1}}\n') == {"quorum": 1}
    assert store.parse("") == {}
