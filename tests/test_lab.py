# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's arithmetic and its sentences; what needs an engine is molecule's to show."""

from __future__ import annotations

from typing import Any

import pytest

from lab import LabError, Settings
from lab.__main__ import main
from lab.cluster import Member, agreed, healthy
from lab.image import tag
from lab.playbook import RECAP, environment
from lab.probe import UNKNOWN_POSITION, Acknowledged, Probe, position


def test_addresses_come_from_subnet_and_host() -> None:
    settings = Settings(subnet="10.1.2.0/24")
    assert settings.address("pg3") == "10.1.2.13"
    assert settings.address("ops1") == "10.1.2.21"
    assert settings.gateway == "10.1.2.1"
    assert settings.container("pg1") == "pgherd-pg1"


@pytest.mark.parametrize(
    ("bad", "variable"),
    [
        ({"name": "Bad_Name"}, "PGHERD_LAB_NAME"),
        ({"subnet": "10.1.2.0/25"}, "PGHERD_LAB_SUBNET"),
        ({"subnet": "8.8.8.0/24"}, "PGHERD_LAB_SUBNET"),
        ({"subnet": "nonsense"}, "PGHERD_LAB_SUBNET"),
        ({"release": "11"}, "PGHERD_LAB_RELEASE"),
    ],
)
def test_bad_settings_name_the_variable_and_the_value(bad: dict[str, Any], variable: str) -> None:
    with pytest.raises(LabError, match=variable) as caught:
        Settings(**bad)
    assert repr(next(iter(bad.values()))) in str(caught.value)


def test_environment_leads_back_to_the_same_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings("other", "10.9.8.0/24", "12", data_disk=True)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings.from_environment() == settings
    assert Settings.from_environment(name="third").name == "third"


def test_image_tag_follows_the_release() -> None:
    assert tag(Settings(release="12")) != tag(Settings(release="13"))


def test_missing_engine_is_one_sentence_and_exit_code_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    assert main(["status"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("lab: No Docker engine answers: install one")
    assert message.count("\n") == 1


def test_healthy_wants_one_leader_and_the_rest_on_its_timeline() -> None:
    leader = Member("pg1", "leader", "running", 3)
    second = Member("pg2", "replica", "streaming", 3)
    assert healthy([leader, second, Member("pg3", "replica", "streaming", 3)])
    assert not healthy([leader, second])
    assert not healthy([leader, second, Member("pg3", "replica", "streaming", 2)])
    assert not healthy([leader, second, Member("pg3", "replica", "running", 3)])
    assert not healthy([second, second, second])
    assert not healthy([])


def test_only_what_all_members_see_counts_where_they_must_agree() -> None:
    """A primary that was cut off shows itself as the leader of a healthy cluster for a while."""
    others = [Member("pg3", "replica", "streaming", 3)]
    stale = [Member("pg1", "leader", "running", 3), Member("pg2", "replica", "streaming", 3)]
    true = [Member("pg1", "replica", "stopped", None), Member("pg2", "leader", "running", 3)]
    whole = [Member("pg1", "replica", "streaming", 3), Member("pg2", "leader", "running", 3)]
    assert agreed([stale + others, true + others, true + others]) == []
    assert agreed([whole + others, true + others, whole + others]) == true + others
    assert agreed([whole + others] * 3) == whole + others
    assert agreed([[], [], []]) == agreed([[], whole + others, whole + others]) == []


def test_recap_counts_changes_of_every_host() -> None:
    text = (
        "PLAY RECAP ****\n"
        "pg1    : ok=40   changed=2    unreachable=0    failed=0    skipped=3\n"
        "ops1   : ok=4    changed=0    unreachable=0    failed=0    skipped=3\n"
    )
    assert {m["host"]: int(m["changed"]) for m in RECAP.finditer(text)} == {"pg1": 2, "ops1": 0}


def test_a_recap_is_never_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    """molecule on a terminal forces colours; the counts could not be read then."""
    monkeypatch.setenv("ANSIBLE_FORCE_COLOR", "1")
    assert environment()["ANSIBLE_NOCOLOR"] == "1"
    assert "ANSIBLE_FORCE_COLOR" not in environment()


def test_losses_beyond_the_switch_point_are_told_from_losses_without_excuse() -> None:
    switch = position("0/3000148")
    probe = Probe(targets=(), run="r")
    probe.acknowledged = [
        Acknowledged(1, 10.0, "old", switch - 8),
        Acknowledged(2, 10.1, "old", switch),
        Acknowledged(3, 10.2, "old", switch + 8),
        Acknowledged(4, 10.3, "old", UNKNOWN_POSITION),
        Acknowledged(5, 15.3, "new", switch + 8),
        Acknowledged(6, 15.4, "new", switch + 16),
    ]
    losses = probe.losses({1, 6}, "old", switch)
    assert losses.tail == (3, 4)
    assert losses.unexplained == (2, 5)
    gap = probe.gap()
    assert gap.seconds == pytest.approx(5.0)
    assert (gap.before, gap.after) == ("old", "new")


def test_position_is_a_64_bit_number() -> None:
    assert position("1/FF") == (1 << 32) + 255
