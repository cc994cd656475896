# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab makes of the output of Patroni's tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab import LabError
from lab.patroni_tools import Checked, fetch, parse

if TYPE_CHECKING:
    from pathlib import Path


def test_text_and_figures_of_a_check_are_told_apart() -> None:
    output = "CLUSTERHASREPLICA OK - healthy_replica is 2 | healthy_replica=2;;2: pg2_lag=0\n"
    text = "CLUSTERHASREPLICA OK - healthy_replica is 2"
    assert parse(0, output) == Checked(0, text, {"healthy_replica": 2, "pg2_lag": 0})


def test_a_check_without_an_answer_has_no_figures() -> None:
    output = "NODEISALIVE UNKNOWN - Connection failed for all provided endpoints\n"
    assert parse(3, output) == Checked(3, output.strip(), {})


def test_figures_may_stand_on_several_lines_and_in_quotes() -> None:
    assert parse(0, "X OK | 'lag'=1\nsync=2.5;;@1:1").figures == {"lag": 1, "sync": 2.5}


def test_what_cannot_be_fetched_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"pip cannot fetch \./nothing\.whl: "):
        fetch(["./nothing.whl"], tmp_path)
