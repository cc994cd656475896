# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles of a new cluster: they are made on a slow host, too."""

from __future__ import annotations

import pytest

from agent.tests.postgres_processes import INSTALLED, MISSING, nodes

# Longer than a statement of a round may take, seconds.
SLOW = "1.5"
# Whatever changes a role waits first.
TRIGGER = f"""
CREATE FUNCTION hold_up() RETURNS event_trigger LANGUAGE plpgsql
AS $$ BEGIN PERFORM pg_sleep({SLOW}); END $$;
CREATE EVENT TRIGGER hold_up ON ddl_command_start WHEN TAG IN ('GRANT') EXECUTE FUNCTION hold_up();
"""


async def test_a_server_that_takes_its_time_gets_its_roles_all_the_same() -> None:
    if not INSTALLED:
        pytest.fail(MISSING, pytrace=False)
    async with nodes(1) as [node]:
        await node.create()
        await node.postgres.query(TRIGGER)
        await node.postgres.create_accounts()
        [row] = await node.postgres.query(
            "SELECT has_function_privilege(%s, 'pg_catalog.pg_read_binary_file(text)', 'EXECUTE')",
            [node.config.postgres.rewind.username],
        )
        assert list(row.values()) == [True]
