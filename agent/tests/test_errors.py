# SPDX-License-Identifier: GPL-3.0-or-later
"""What errors say to the person who reads them."""

from __future__ import annotations

import pytest

from pgherd.errors import CommandError


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (
            (
                "pg_basebackup: error: connection failed: FATAL: no pg_hba.conf entry\n"
                'password retrieved from file "/run/pgherd/pgpass"\n'
            ),
            "pg_basebackup: error: connection failed: FATAL: no pg_hba.conf entry",
        ),
        ("LOG: starting\nFATAL:  lock file exists\nHINT:  look\n", "FATAL:  lock file exists"),
        ("something\nelse\n", "else"),
        ("", "no output"),
    ],
)
def test_a_failed_program_is_quoted_where_it_names_the_error(output: str, reason: str) -> None:
    assert str(CommandError("prog", 3, output)) == f"prog ended with exit code 3: {reason}"
