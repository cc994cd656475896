# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of Patroni on a host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.pgherd.cluster.plugins.modules.patroni_facts import (
    config_path,
    environment,
    lines,
    read_config,
    read_note,
)

if TYPE_CHECKING:
    from pathlib import Path

START = "{ path=/usr/bin/patroni ; argv[]=/usr/bin/patroni %s; ignore_errors=no ; pid=0 }"


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (START % "/etc/patroni/config.yml ", "/etc/patroni/config.yml"),
        (START % "--verbose /etc/patroni/17-main.yml ", "/etc/patroni/17-main.yml"),
        (START % "", ""),
        (START % "--validate-config ", ""),
        ("", ""),
    ],
)
def test_the_units_command_names_the_configuration(command: str, path: str) -> None:
    assert config_path(command) == path


def test_neither_comments_nor_empty_lines_are_rules(tmp_path: Path) -> None:
    file = tmp_path / "pg_hba.conf"
    file.write_text("# by Patroni\n\nlocal all all peer\n  host all all all md5 # why\n")
    assert lines(str(file)) == ["local all all peer", "host all all all md5 # why"]


def test_the_environment_of_a_process_that_is_gone_is_empty() -> None:
    assert environment("0") == []


@pytest.mark.parametrize("text", ["- a list", "key: [", "text"])
def test_a_configuration_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"config\.yml"):
        read_config(str(file))


def test_a_missing_note_is_empty(tmp_path: Path) -> None:
    assert read_note(str(tmp_path / "none.json")) == {}
