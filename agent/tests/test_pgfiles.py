# SPDX-License-Identifier: GPL-3.0-or-later
"""The files PostgreSQL reads: quoting, precedence, what a standby may not have lower."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from agent.tests.builders import LIMITS, config, control, member, raw_config
from pgherd.pgfiles import Files, Upstream, conninfo, quote, slot_name, take_back, write_atomically

if TYPE_CHECKING:
    from pathlib import Path


def files(directory: Path, **postgresql: Any) -> Files:
    """Return the writer of an instance whose data directory is as initdb leaves it."""
    (directory / "data").mkdir()
    (directory / "data/postgresql.conf").write_text("lc_messages = 'C'\n")
    section = {**raw_config(directory)["postgresql"], **postgresql}
    return Files(config(directory, postgresql=section))


def settings(directory: Path) -> dict[str, str]:
    """Read postgresql.conf back: names and quoted values, the last one of a name wins."""
    lines = (directory / "data/postgresql.conf").read_text().splitlines()
    return dict(line.split(" = ", 1) for line in lines if " = " in line)


class TestQuoting:
    @pytest.mark.parametrize(
        ("value", "quoted"),
        [
            (True, "'on'"),
            (False, "'off'"),
            (100, "'100'"),
            (0.5, "'0.5'"),
            ("128MB", "'128MB'"),
            ("", "''"),
            ("it's", "'it''s'"),
            ("C:\\pg", "'C:\\\\pg'"),
            ("cp %p 'a\\b'", "'cp %p ''a\\\\b'''"),
            ("two\nlines", "'two\\nlines'"),
            ("a # b", "'a # b'"),
        ],
    )
    def test_a_setting_is_one_quoted_word_on_one_line(self, value: Any, quoted: str) -> None:
        assert quote(value) == quoted

    @pytest.mark.parametrize(
        "value", ["plain", "it's", "back\\slash", "two words", "a'\\'b", "=", "ü"]
    )
    def test_a_connection_string_is_read_by_libpq_as_it_was_meant(self, value: str) -> None:
        text = conninfo({"user": value, "port": 5432, "dbname": "", "sslmode": None})
        assert conninfo_to_dict(text) == {"user": value, "port": "5432"}

    @pytest.mark.parametrize(
        ("member", "slot"),
        [("pg1", "pg1"), ("PG-1.example", "pg_1_example"), ("a" * 70, "a" * 63), ("é", "_")],
    )
    def test_slots_are_named_as_patroni_names_them(self, member: str, slot: str) -> None:
        """R35."""
        assert slot_name(member) == slot


class TestWriting:
    def test_a_file_is_replaced_as_a_whole_and_only_when_it_differs(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        assert write_atomically(path, "one")
        first = path.stat()
        assert not write_atomically(path, "one")
        assert path.stat().st_ino == first.st_ino
        assert write_atomically(path, "two")
        assert path.read_text() == "two"
        assert [each.name for each in tmp_path.iterdir()] == ["file"]

    def test_it_is_readable_by_its_owner_only(self, tmp_path: Path) -> None:
        write_atomically(tmp_path / "file", "secret")
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600

    def test_passwords_are_written_for_every_account_and_escaped(self, tmp_path: Path) -> None:
        accounts = {
            "superuser": {"username": "post:gres", "password": "a\\b:c"},
            "replication": {"username": "replicator", "password": "r"},
            "rewind": {"username": "quiet"},
        }
        files(tmp_path, authentication=accounts).write_pgpass()
        assert (tmp_path / "pgpass").read_text().splitlines() == [
            "*:*:*:post\\:gres:a\\\\b\\:c",
            "*:*:*:replicator:r",
        ]

    def test_what_initdb_left_is_kept_and_included(self, tmp_path: Path) -> None:
        """3.2: Patroni's name for it, too."""
        written = files(tmp_path)
        written.write_server_config({}, None, None)
        assert (tmp_path / "data/postgresql.base.conf").read_text() == "lc_messages = 'C'\n"
        written.write_server_config({"work_mem": "8MB"}, None, None)
        assert (tmp_path / "data/postgresql.base.conf").read_text() == "lc_messages = 'C'\n"
        content = (tmp_path / "data/postgresql.conf").read_text()
        assert "include_if_exists 'postgresql.base.conf'\n" in content
        assert content.index("include_if_exists") < content.index("work_mem")

    def test_the_second_time_nothing_changes(self, tmp_path: Path) -> None:
        written = files(tmp_path, pg_hba=["local all all peer"], pg_ident=["m a b"])
        assert written.write_server_config({}, Upstream("pg2", 5432, "pg1"), control())
        assert not written.write_server_config({}, Upstream("pg2", 5432, "pg1"), control())
        assert written.write_server_config({}, Upstream("pg3", 5432, "pg1"), control())

    @pytest.mark.parametrize("name", ["pg_hba", "pg_ident"])
    def test_a_change_of_access_rules_alone_is_a_change(self, tmp_path: Path, name: str) -> None:
        written = files(tmp_path)
        written.write_server_config({}, None, None)
        section = {**raw_config(tmp_path)["postgresql"], name: ["one line", "another"]}
        written.reconfigure(config(tmp_path, postgresql=section))
        assert written.write_server_config({}, None, None)
        lines = (tmp_path / f"data/{name}.conf").read_text().splitlines()
        assert lines[-2:] == ["one line", "another"]


class TestPrecedence:
    @pytest.mark.parametrize(
        ("computed", "dynamic", "local", "expected"),
        [
            ({}, {}, {}, "'replica'"),
            ({"wal_level": "logical"}, {}, {}, "'logical'"),
            ({"wal_level": "minimal"}, {"wal_level": "logical"}, {}, "'logical'"),
            ({}, {"wal_level": "minimal"}, {"wal_level": "logical"}, "'logical'"),
        ],
    )
    def test_computed_gives_way_to_the_clusters_and_that_to_the_hosts(
        self, tmp_path: Path, computed: Any, dynamic: Any, local: Any, expected: str
    ) -> None:
        written = files(tmp_path, default_parameters=computed, parameters=local)
        written.write_server_config(dynamic, None, None)
        assert settings(tmp_path)["wal_level"] == expected

    def test_null_takes_a_setting_away(self, tmp_path: Path) -> None:
        written = files(tmp_path, default_parameters={"work_mem": "8MB"})
        written.write_server_config({"work_mem": None}, None, None)
        assert "work_mem" not in settings(tmp_path)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("port", 1),
            ("listen_addresses", "*"),
            ("cluster_name", "x"),
            ("unix_socket_directories", "/x"),
            ("recovery_target_timeline", "current"),
            ("hot_standby", False),
            ("primary_conninfo", "host=evil"),
            ("primary_slot_name", "x"),
            ("hba_file", "/x"),
            ("ident_file", "/x"),
            ("data_directory", "/x"),
        ],
    )
    def test_the_clusters_configuration_cannot_set_what_the_agent_decides(
        self, tmp_path: Path, name: str, value: Any
    ) -> None:
        """Patroni ignores these in /config as well, and such a /config may be there already."""
        written = files(tmp_path)
        written.write_server_config({}, None, None)
        without = settings(tmp_path)
        written.write_server_config({name: value}, None, None)
        assert settings(tmp_path) == without

    def test_a_primary_follows_nobody(self, tmp_path: Path) -> None:
        files(tmp_path).write_server_config({}, None, None)
        assert not {"primary_conninfo", "primary_slot_name"} & set(settings(tmp_path))


class TestWhoseAcknowledgementIsWaitedFor:
    NAMES = 'ANY 1 ("pg2","pg-3")'

    def test_it_is_written_as_postgresql_reads_it(self, tmp_path: Path) -> None:
        files(tmp_path).write_server_config({}, None, None, self.NAMES)
        assert settings(tmp_path)["synchronous_standby_names"] == f"'{self.NAMES}'"

    def test_nobody_is_written_down_too(self, tmp_path: Path) -> None:
        """What initdb or an operator left elsewhere must not count."""
        files(tmp_path).write_server_config({}, None, None)
        assert settings(tmp_path)["synchronous_standby_names"] == "''"

    def test_another_setting_is_a_change(self, tmp_path: Path) -> None:
        known = files(tmp_path)
        known.write_server_config({}, None, None, self.NAMES)
        assert not known.write_server_config({}, None, None, self.NAMES)
        assert known.write_server_config({}, None, None)

    @pytest.mark.parametrize("source", ["dynamic", "host"])
    def test_nobody_else_has_a_say_in_it(self, tmp_path: Path, source: str) -> None:
        parameters = {"synchronous_standby_names": "*"}
        known = files(tmp_path)
        dynamic = parameters if source == "dynamic" else {}
        known.write_server_config(dynamic, None, None, self.NAMES)
        assert settings(tmp_path)["synchronous_standby_names"] == f"'{self.NAMES}'"


class TestAStandby:
    def test_it_follows_with_its_own_slot_and_name(self, tmp_path: Path) -> None:
        files(tmp_path).write_server_config({}, Upstream("192.0.2.2", 5433, "pg1"), control())
        written = settings(tmp_path)
        assert written["primary_slot_name"] == "'pg1'"
        upstream = conninfo_to_dict(written["primary_conninfo"][1:-1].replace("''", "'"))
        assert upstream["host"] == "192.0.2.2"
        assert upstream["port"] == "5433"
        assert upstream["user"] == "replicator"
        assert upstream["application_name"] == "pg1"
        assert upstream["passfile"] == str(tmp_path / "pgpass")
        assert "password" not in upstream

    @pytest.mark.parametrize("ttl", [2, 5, 30])
    def test_a_dead_upstream_is_noticed_within_a_lease(self, tmp_path: Path, ttl: int) -> None:
        timing = {"lease_ttl": ttl, "keepalive_interval": 0.2, "etcd_timeout": 0.2}
        written = Files(config(tmp_path, pgherd=timing))
        upstream = conninfo_to_dict(written.upstream_conninfo("pg2", 5432, "replicator"))
        assert upstream["tcp_user_timeout"] == str(ttl * 1000)
        assert upstream["connect_timeout"] == str(max(2, ttl))

    def test_with_a_certificate_authority_the_server_is_verified(self, tmp_path: Path) -> None:
        written = files(tmp_path, ssl={"ca": "/etc/ca.pem"})
        upstream = conninfo_to_dict(written.upstream_conninfo("pg2", 5432, "replicator"))
        assert (upstream["sslmode"], upstream["sslrootcert"]) == ("verify-full", "/etc/ca.pem")

    @pytest.mark.parametrize(
        ("given", "limit", "expected"),
        [(50, 100, "'100'"), ("50", 100, "'100'"), (200, 100, "'200'"), (100, 100, "'100'")],
    )
    @pytest.mark.parametrize("name", sorted(LIMITS))
    def test_a_limit_is_never_lower_than_the_primarys(
        self, tmp_path: Path, name: str, given: Any, limit: int, expected: str
    ) -> None:
        """3.1: else it refuses to start, or stops when the WAL tells it so."""
        known = control(limits={**LIMITS, name: limit})
        files(tmp_path, parameters={name: given}).write_server_config(
            {}, Upstream("pg2", 5432, "pg1"), known
        )
        assert settings(tmp_path)[name] == expected

    def test_a_limit_that_nobody_configures_is_the_primarys(self, tmp_path: Path) -> None:
        """PostgreSQL's own default may be lower than what the primary still runs with."""
        known = control(limits={**LIMITS, "max_connections": 500})
        files(tmp_path).write_server_config({}, Upstream("pg2", 5432, "pg1"), known)
        assert settings(tmp_path)["max_connections"] == "'500'"

    def test_a_primarys_limits_are_its_own(self, tmp_path: Path) -> None:
        files(tmp_path, parameters={"max_connections": 50}).write_server_config({}, None, None)
        assert settings(tmp_path)["max_connections"] == "'50'"

    def test_a_promotion_takes_no_setting_out_of_the_file(self, tmp_path: Path) -> None:
        """PostgreSQL calls a setting that left the file one that waits for a restart."""
        upstream = Upstream("pg2", 5432, "pg1")
        written = files(tmp_path)
        written.write_server_config({}, upstream, control(limits=LIMITS))
        as_standby = set(settings(tmp_path))
        written.write_server_config({}, None, None)
        assert as_standby - set(settings(tmp_path)) == {"primary_conninfo", "primary_slot_name"}


class TestWhatOthersWrote:
    """PostgreSQL reads postgresql.auto.conf after the file that is ours."""

    def test_what_the_agent_decides_is_taken_out_and_the_rest_stays(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        auto = tmp_path / "postgresql.auto.conf"
        auto.write_text(
            "# Do not edit this file manually!\n"
            "work_mem = '8MB'\n"
            "primary_conninfo = 'host=elsewhere password=secret'\n"
            "Synchronous_Standby_Names=''\n"
        )
        assert take_back(auto)
        assert auto.read_text() == "# Do not edit this file manually!\nwork_mem = '8MB'\n"
        assert "primary_conninfo" in caplog.text
        assert "secret" not in caplog.text
        assert not take_back(auto)

    def test_without_the_file_there_is_nothing_to_take(self, tmp_path: Path) -> None:
        assert not take_back(tmp_path / "postgresql.auto.conf")


class TestFailoverSlots:
    """PostgreSQL 17: what logical slots need to live through a failover."""

    NAMES = frozenset(
        {"sync_replication_slots", "hot_standby_feedback", "synchronized_standby_slots"}
    )

    def written(
        self,
        directory: Path,
        *,
        major: str = "17",
        use_slots: bool = True,
        copies: bool = False,
        syncs: bool = True,
        **parameters: Any,
    ) -> dict[str, str]:
        """Return what is written of them for a standby that subscribers may wait for."""
        writer = files(directory)
        (directory / "data/PG_VERSION").write_text(f"{major}\n")
        writer.use_slots, writer.syncs_slots, writer.copies_slots = use_slots, syncs, copies
        writer.subscribers_wait_for = ("pg2", "pg3")
        upstream = writer.upstream(member("pg2"))
        writer.write_server_config({"wal_level": "logical", **parameters}, upstream, None)
        found = settings(directory)
        database = re.search("dbname=''(\\w+)''", found["primary_conninfo"])
        shown = {name: found[name] for name in self.NAMES & found.keys()}
        return {**shown, **({"dbname": database[1]} if database else {})}

    def test_a_cluster_that_decodes_has_them(self, tmp_path: Path) -> None:
        assert self.written(tmp_path) == {
            "sync_replication_slots": "'on'",
            "hot_standby_feedback": "'on'",
            "synchronized_standby_slots": '\'"pg2","pg3"\'',
            "dbname": "postgres",
        }

    @pytest.mark.parametrize("major", ["15", "16", "none"])
    def test_before_it_such_settings_would_keep_postgresql_from_starting(
        self, tmp_path: Path, major: str
    ) -> None:
        assert self.written(tmp_path, major=major) == {}

    @pytest.mark.parametrize(
        ("given", "found"),
        [
            ({}, {"hot_standby_feedback": "'on'"}),
            ({"hot_standby_feedback": False}, {"hot_standby_feedback": "'off'"}),
            ({"wal_level": "replica"}, {}),
        ],
        ids=["by itself", "given", "no logical WAL"],
    )
    def test_but_rows_are_kept_for_slots_that_standbys_copy(
        self, tmp_path: Path, given: dict[str, Any], found: dict[str, str]
    ) -> None:
        """R37."""
        assert self.written(tmp_path, major="15", copies=True, **given) == found

    def test_others_are_left_alone(self, tmp_path: Path) -> None:
        assert self.written(tmp_path, wal_level="replica") == {}

    def test_so_are_those_without_slots(self, tmp_path: Path) -> None:
        assert self.written(tmp_path, use_slots=False) == {}

    def test_what_is_given_counts(self, tmp_path: Path) -> None:
        found = self.written(tmp_path, hot_standby_feedback=False, sync_replication_slots="off")
        assert found["hot_standby_feedback"] == "'off'"
        assert found["sync_replication_slots"] == "'off'"

    def test_a_standby_of_a_standby_copies_none(self, tmp_path: Path) -> None:
        found = self.written(tmp_path, syncs=False)
        assert found["sync_replication_slots"] == "'off'"
        assert "dbname" not in found

    def test_whom_subscribers_wait_for_cannot_be_given(self, tmp_path: Path) -> None:
        found = self.written(tmp_path, synchronized_standby_slots="pg9")
        assert found["synchronized_standby_slots"] == '\'"pg2","pg3"\''


@pytest.mark.parametrize(("use_slots", "slot"), [(True, "pg1"), (False, "")])
def test_without_slots_a_standby_streams_without_one(
    tmp_path: Path, use_slots: bool, slot: str
) -> None:
    writer = files(tmp_path)
    writer.use_slots = use_slots
    upstream = writer.upstream(member("pg2"))
    assert upstream is not None
    assert upstream.slot == slot
