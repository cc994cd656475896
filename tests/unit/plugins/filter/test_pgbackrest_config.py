# SPDX-License-Identifier: GPL-3.0-or-later
"""pgBackRest's files of one host: what is refused, and what is written."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.pgherd.cluster.plugins.filter.pgbackrest_config import pgbackrest_config

S3 = {
    "type": "s3",
    "bucket": "backups",
    "endpoint": "s3.example.org:9000",
    "key": "id",
    "key_secret": "word",
    "uri_style": "path",
}


def facts(**changes: Any) -> dict[str, Any]:
    """Return what the role says of pg1, one of two members with a repository host."""
    known = {
        "stanza": "demo",
        "name": "pg1",
        "is_member": True,
        "repositories": [{"type": "host"}],
        "keepers": ["ops1"],
        "members": ["pg1", "pg2"],
        "addresses": {"ops1": "192.0.2.21", "pg1": "192.0.2.11", "pg2": "192.0.2.12"},
        "port": 8432,
        "tls": {"ca": "/tls/ca", "cert": "/tls/cert", "key": "/tls/key"},
        "cipher_pass": "secret",
        "data_dir": "/data",
        "postgresql_port": 5432,
        "socket_dir": "/run/postgresql",
        "postgresql_version": "17",
        "processes": 2,
        "compress_type": "zst",
        "compress_level": 3,
        "queue_bytes": 8 << 30,
        "config": {},
        "clone": {},
    }
    return {**known, **changes}


def written(file: str = "pgbackrest.conf", **changes: Any) -> dict[str, list[str]]:
    """Return the lines of the file *file* by section."""
    text = pgbackrest_config(facts(**changes))[file]
    sections: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            sections[line.strip("[]")] = []
        elif line and not line.startswith("#"):
            sections[list(sections)[-1]].append(line)
    return sections


def test_a_member_reaches_the_repository_host_by_tls_and_knows_no_other_member() -> None:
    """pgBackRest refuses both a repository and members elsewhere."""
    found = written()
    assert "repo1-host=192.0.2.21" in found["global"]
    assert "repo1-host-type=tls" in found["global"]
    assert not any(line.startswith("repo1-cipher") for line in found["global"])
    assert found["demo"] == ["pg1-path=/data", "pg1-port=5432", "pg1-socket-path=/run/postgresql"]


def test_a_member_archives_beside_and_drops_wal_only_when_the_disk_would_fill_up() -> None:
    found = written()["global"]
    assert "archive-async=y" in found
    assert "archive-push-queue-max=8192MiB" in found
    assert not any("archive-push-queue-max" in line for line in written(queue_bytes=0)["global"])


def test_the_repository_host_has_the_pass_and_all_members() -> None:
    found = keeper()
    assert "repo1-cipher-pass=secret" in found["global"]
    assert "repo1-block=y" in found["global"]
    assert "pg2-host=192.0.2.12" in found["demo"]
    assert "backup-standby=y" in found["demo"]


def keeper(**changes: Any) -> dict[str, list[str]]:
    """Return the main file of the repository host."""
    text = pgbackrest_config(facts(**{"name": "ops1", "is_member": False, **changes}))
    lines = text["pgbackrest.conf"].splitlines()
    middle = lines.index("[demo]")
    return {"global": lines[:middle], "demo": lines[middle + 1 :]}


def test_who_may_connect_is_known_by_address() -> None:
    assert "tls-server-auth=192.0.2.11=*" in keeper()["global"]
    assert "tls-server-auth=192.0.2.12=demo" in written()["global"]
    assert "tls-server-auth=192.0.2.11=demo" not in written()["global"]


def test_an_older_pgbackrest_is_not_told_of_blocks() -> None:
    assert "repo1-block=y" not in keeper(postgresql_version="15")["global"]


def test_storage_that_speaks_s3_is_reached_by_every_member() -> None:
    found = written(repositories=[S3], keepers=[])
    assert "repo1-type=s3" in found["global"]
    assert "repo1-s3-endpoint=s3.example.org" in found["global"]
    assert "repo1-storage-port=9000" in found["global"]
    assert "repo1-s3-uri-style=path" in found["global"]
    assert "repo1-cipher-type=aes-256-cbc" in found["global"]
    assert found["demo"][0] == "pg1-path=/data"
    assert "pg2-host=192.0.2.12" in found["demo"]
    assert "backup-standby=y" in found["demo"]


def test_several_repositories_stand_beside_each_other() -> None:
    plain = {"type": "posix", "path": "/srv", "cipher": False, "retention_diff": 3}
    found = written(repositories=[{"type": "host"}, plain])["global"]
    assert "repo1-host=192.0.2.21" in found
    assert "repo2-path=/srv" in found
    assert "repo2-retention-diff=3" in found
    assert not any(line.startswith("repo2-cipher") for line in found)


def test_one_member_has_no_standby_to_read_from() -> None:
    found = keeper(members=["pg1"])["demo"]
    assert not any("backup-standby" in line for line in found)


def test_what_is_not_compressed_has_no_level() -> None:
    assert not any("compress-level" in line for line in written(compress_type="none")["global"])


def test_options_of_the_operator_win() -> None:
    found = written(config={"buffer-size": "1MiB", "start-fast": None})["global"]
    assert "buffer-size=1MiB" in found
    assert not any(line.startswith("start-fast") for line in found)


def test_copies_beside_do_not_use_the_members_spool() -> None:
    found = written("local.conf")["global"]
    assert not any(line.startswith(("spool", "archive-async")) for line in found)
    assert written("local.conf")["demo"][0] == "pg1-path=/data"


def test_a_clone_is_read_from_its_own_repository_with_its_own_pass() -> None:
    source = {**S3, "cipher_pass": "theirs"}
    found = written("clone.conf", clone={"cluster": "other", "repository": source})
    assert "repo1-cipher-pass=theirs" in found["global"]
    assert found["other"][0] == "pg1-path=/data"


def test_a_clone_may_be_read_from_the_clusters_own_repositories() -> None:
    found = written("clone.conf", clone={"cluster": "other"})
    assert "repo1-host=192.0.2.21" in found["global"]
    assert "clone.conf" not in pgbackrest_config(facts())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"repositories": []}, "has 0 entries, 1 to 4 are possible"),
        ({"repositories": [{"type": "tape"}]}, "type 'tape' is none of host, posix, s3"),
        ({"keepers": []}, "the group `backup` is empty"),
        (
            {"repositories": [{"type": "host", "host": "pg9"}]},
            "host 'pg9' is not in the group `backup`",
        ),
        ({"repositories": [{**S3, "key": ""}]}, "pgbackrest_repositories[1]: key is missing"),
        ({"repositories": [{"type": "posix", "path": "srv"}]}, "'srv' does not begin with /"),
        (
            {
                "keepers": ["ops1", "pg2"],
                "repositories": [{"type": "host"}, {"type": "host", "host": "pg2"}],
            },
            "names 2 repository hosts",
        ),
        (
            {"clone": {"cluster": "other", "repository": {"type": "s3"}}},
            "pgbackrest_clone.repository[1]: bucket is missing",
        ),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(AnsibleFilterError) as refusal:
        pgbackrest_config(facts(**changes))
    assert reason in str(refusal.value)
