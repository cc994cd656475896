# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/clients.md shows what `pgherd dsn` prints, string by string."""

from __future__ import annotations

import pytest

from lab.documented import PAGE, kind, strings
from pgherd.commands.dsn import FORMATS, Way
from pgherd.endpoints import Endpoints

HOSTS = ("192.0.2.11", "192.0.2.12", "192.0.2.13")


def everywhere(port: int) -> tuple[str, ...]:
    return tuple(f"{host}:{port}" for host in HOSTS)


@pytest.mark.parametrize(
    ("section", "endpoints", "forms"),
    [
        (
            "An address that moves",
            Endpoints(("192.0.2.100:5000",), ("192.0.2.100:5001",)),
            {"libpq", "uri", "jdbc", "pgx", "node"},
        ),
        (
            "Several hosts",
            Endpoints(everywhere(5000), everywhere(5001)),
            {"libpq", "jdbc", "pgx"},
        ),
        (
            "The servers themselves",
            Endpoints(everywhere(5432), everywhere(5432), direct=True),
            {"libpq", "jdbc", "pgx"},
        ),
    ],
)
def test_the_strings_are_those_the_command_prints(
    section: str, endpoints: Endpoints, forms: set[str]
) -> None:
    ways = [Way.to(endpoints, use, "shop", "app") for use in ("rw", "ro")]
    shown = [text for text in strings(section) if kind(text) in FORMATS]
    assert sorted(shown) == sorted(FORMATS[form](way) for form in forms for way in ways)


def test_a_section_that_is_not_there_is_no_empty_one() -> None:
    with pytest.raises(LookupError, match=PAGE.name):
        strings("Nothing")
