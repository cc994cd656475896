# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration files: how they are merged, read and built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.tests.builders import config, raw_config
from pgherd.access_config import Ctl, Login, ServerTls
from pgherd.config import Fencing, KeepDiverged, Tls, load, merge, read_yaml
from pgherd.errors import ConfigError
from pgherd.settings import Tags


def write(path: Path, content: Any) -> Path:
    """Write *content* as YAML to *path* and return it."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


class TestMerging:
    @pytest.mark.parametrize(
        ("base", "over", "merged"),
        [
            ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
            ({"a": 1}, {"a": 2}, {"a": 2}),
            ({"a": {"x": 1, "y": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}),
            ({"a": {"x": {"p": 1}}}, {"a": {"x": {"q": 2}}}, {"a": {"x": {"p": 1, "q": 2}}}),
            ({"a": [1]}, {"a": [2]}, {"a": [2]}),
            ({"a": {"x": 1}}, {"a": None}, {"a": None}),
        ],
    )
    def test_mappings_are_merged_and_all_else_is_replaced(
        self, base: Any, over: Any, merged: Any
    ) -> None:
        assert merge(base, over) == merged

    def test_what_is_merged_stays_as_it_was(self) -> None:
        base, over = {"a": {"x": 1}}, {"a": {"y": 2}}
        merge(base, over)
        assert (base, over) == ({"a": {"x": 1}}, {"a": {"y": 2}})


class TestLoading:
    def test_fragments_complete_the_file_in_the_order_of_their_names(self, tmp_path: Path) -> None:
        raw = raw_config(tmp_path)
        postgresql = raw.pop("postgresql")
        path = write(tmp_path / "pgherd.yml", raw)
        write(tmp_path / "conf.d/50-postgresql.yml", {"postgresql": postgresql})
        write(tmp_path / "conf.d/60-a.yml", {"postgresql": {"parameters": {"work_mem": "1MB"}}})
        write(tmp_path / "conf.d/70-b.yml", {"postgresql": {"parameters": {"work_mem": "2MB"}}})
        write(tmp_path / "conf.d/80-c.yml.bak", {"scope": "other"})
        assert load(path).postgres.parameters == {"work_mem": "2MB"}
        assert load(path).scope == "demo"

    def test_without_its_fragments_a_file_may_be_incomplete(self, tmp_path: Path) -> None:
        raw = raw_config(tmp_path)
        postgresql = raw.pop("postgresql")
        path = write(tmp_path / "pgherd.yml", raw)
        write(tmp_path / "conf.d/50-postgresql.yml", {"postgresql": postgresql})
        with pytest.raises(ConfigError) as caught:
            load(path, fragments=False)
        assert all(problem.startswith("postgresql.") for problem in caught.value.problems)

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ("a: [1", "not YAML"),
            ("- a\n", "must hold a mapping, not a list"),
            ("text\n", "must hold a mapping, not a str"),
            ("\x00", "not YAML"),
        ],
    )
    def test_a_file_that_is_no_mapping_is_named(
        self, tmp_path: Path, content: str, problem: str
    ) -> None:
        path = tmp_path / "pgherd.yml"
        path.write_text(content)
        with pytest.raises(ConfigError) as caught:
            read_yaml(path)
        [told] = caught.value.problems
        assert told.startswith(f"{path}: {problem}")
        assert "\n" not in told

    def test_a_file_that_is_not_text_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "pgherd.yml"
        path.write_bytes(b"scope: \xff\xfe")
        with pytest.raises(ConfigError, match="cannot be read"):
            read_yaml(path)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"none\.yml: cannot be read: No such file"):
            read_yaml(tmp_path / "none.yml")

    def test_an_empty_file_is_an_empty_mapping(self, tmp_path: Path) -> None:
        path = tmp_path / "pgherd.yml"
        path.write_text("# nothing\n")
        assert read_yaml(path) == {}


class TestBuilding:
    def test_addresses_and_urls(self) -> None:
        built = config(
            restapi={"listen": "0.0.0.0:8009", "connect_address": "192.0.2.1:8009"},
            etcd3={"hosts": "192.0.2.1:2379, 192.0.2.2:2379", "protocol": "https"},
            namespace="/service/",
        )
        assert (built.listen_host, built.listen_port) == ("0.0.0.0", 8009)
        assert built.api_url == "http://192.0.2.1:8009/patroni"
        assert built.conn_url == "postgres://127.0.0.1:5432/postgres"
        assert built.etcd_endpoints == ("https://192.0.2.1:2379", "https://192.0.2.2:2379")
        assert built.namespace == "service"

    def test_defaults(self) -> None:
        raw = raw_config()
        for key in ("socket_directory", "log_file"):
            del raw["postgresql"][key]
        del raw["runtime_dir"]
        del raw["bootstrap"]
        built = config(**{"postgresql": raw["postgresql"]})
        assert built.postgres.log_file == Path("/var/log/postgresql/postgresql-15-demo.log")
        assert built.postgres.socket_directory == Path("/var/run/postgresql")
        assert (built.tags, built.log_level, built.namespace) == (Tags(), "INFO", "service")
        assert built.timing.lease_ttl == 5

    def test_fencing_is_off_unless_it_is_given(self) -> None:
        assert config().fencing == Fencing("off", "", 20.0, "off", {}, {})
        # What YAML makes of a bare `off`.
        given = {"mode": "required", "agent": "x", "action": False, "hosts": {"pg1": {}}}
        assert config(fencing=given).fencing == Fencing("required", "x", hosts={"pg1": {}})
        assert config(fencing={"mode": False}).fencing == Fencing()

    def test_what_a_rejoin_overwrites_is_kept_unless_told_otherwise(self) -> None:
        assert config().postgres.keep_diverged == KeepDiverged(2, 4096)
        raw = raw_config()["postgresql"]
        built = config(postgresql={**raw, "keep_diverged": {"count": 0}}).postgres
        assert built.keep_diverged == KeepDiverged(0, 4096)

    def test_with_a_certificate_the_api_is_https(self) -> None:
        rest = {"listen": "127.0.0.1:8008", "connect_address": "127.0.0.1:8008"}
        assert config(restapi={**rest, "certfile": "/c.pem"}).api_url.startswith("https://")

    def test_without_a_rewind_account_the_superuser_rewinds(self) -> None:
        raw = raw_config()["postgresql"]
        del raw["authentication"]["rewind"]
        built = config(postgresql=raw).postgres
        assert built.rewind == built.superuser

    def test_passwords_show_in_no_repr(self) -> None:
        shown = repr(config())
        assert "replicator" in shown
        assert not any(secret in shown for secret in ("s3cret", "r3plica", "r3wind"))

    def test_without_certificates_there_is_no_tls(self) -> None:
        assert Tls().client_context() is None
        assert ServerTls().context() is None
        assert Ctl().context() is None


REST = {"listen": "127.0.0.1:8008", "connect_address": "127.0.0.1:8008"}
LOGIN = {"username": "pgherd", "password": "op3n"}


class TestTheRestApi:
    def test_nothing_given_leaves_unsafe_methods_off(self) -> None:
        built = config()
        assert built.access.login is None
        assert built.ctl.headers == {}

    def test_the_server_s_section(self) -> None:
        given = {
            "authentication": LOGIN,
            "allowlist": ["192.0.2.0/24"],
            "allowlist_include_members": True,
            "verify_client": "required",
            "certfile": "/c.pem",
            "server_tokens": "ProductOnly",
        }
        access = config(restapi={**REST, **given}).access
        assert access.login == Login("pgherd", "op3n")
        assert (access.allowlist, access.include_members) == (("192.0.2.0/24",), True)
        assert (access.tls.verify_client, access.server_tokens) == ("required", "productonly")

    def test_clients_take_from_the_server_s_section_what_theirs_lacks(self) -> None:
        """1.7."""
        rest = {**REST, "authentication": LOGIN, "cafile": "/ca", "certfile": "/c"}
        ctl = config(restapi=rest).ctl
        assert ctl.headers == {"Authorization": "Basic cGdoZXJkOm9wM24="}
        assert (ctl.ca, ctl.certificate, ctl.insecure) == ("/ca", "/c", False)
        own = {"authentication": {"username": "a", "password": "b"}, "cacert": "/b",
               "certfile": "/d", "insecure": True}  # fmt: skip
        ctl = config(restapi={**rest, "keyfile": "/k"}, ctl=own).ctl
        assert ctl.login == Login("a", "b")
        assert (ctl.ca, ctl.certificate, ctl.key, ctl.insecure) == ("/b", "/d", None, True)

    def test_no_password_shows(self) -> None:
        rest = {**REST, "authentication": LOGIN, "keyfile_password": "k3y"}
        shown = repr(config(restapi=rest))
        assert "pgherd" in shown
        assert not any(secret in shown for secret in ("op3n", "k3y"))
