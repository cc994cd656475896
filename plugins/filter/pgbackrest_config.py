# SPDX-License-Identifier: GPL-3.0-or-later
"""pgBackRest's configuration files of one host, from what the cluster is."""

from __future__ import annotations

DOCUMENTATION = r"""
name: pgbackrest_config
short_description: pgBackRest's configuration files of one host
description:
  - Returns the texts of the files below C(/etc/pgbackrest), by their names.
  - Says what is wrong with the repositories, with the variable and the remedy.
version_added: 0.3.0
author: The pgherd developers (@pgherd)
options:
  _input:
    description: What the role C(pgbackrest) knows of cluster and host.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the main file
  ansible.builtin.debug:
    msg: "{{ (__pgbackrest_facts | pgherd.cluster.pgbackrest_config)['pgbackrest.conf'] }}"
"""

RETURN = r"""
_value:
  description: V(pgbackrest.conf), V(local.conf), and V(clone.conf) where a clone is wanted.
  type: dict
"""

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HEADER = "# pgherd: pgBackRest's configuration. Written by Ansible; a change here is undone.\n"
REPOSITORIES_MAX = 4
# The first major version of PostgreSQL here whose Debian has pgBackRest 2.46 or newer.
BLOCKS_SINCE = 16
S3_NEEDS = ("bucket", "endpoint", "key", "key_secret")
SPOOL = "/var/spool/pgbackrest"


def repository_problems(
    repositories: list[dict[str, Any]], keepers: list[str], where: str = "pgbackrest_repositories"
) -> list[str]:
    """Return what is wrong with *repositories*, a sentence each."""
    problems = []
    if not 1 <= len(repositories) <= REPOSITORIES_MAX:
        problems.append(
            f"{where} has {len(repositories)} entries, 1 to {REPOSITORIES_MAX} are possible: put a "
            "host in the group `backup`, or name a directory or S3 storage"
        )
    for number, each in enumerate(repositories, 1):
        name, kind = f"{where}[{number}]", each.get("type")
        if kind not in ("host", "posix", "s3"):
            problems.append(f"{name}: type {kind!r} is none of host, posix, s3")
        if kind == "host" and not keepers:
            problems.append(f"{name}: a repository host is wanted and the group `backup` is empty")
        elif kind == "host" and each.get("host") and each["host"] not in keepers:
            problems.append(f"{name}: host {each['host']!r} is not in the group `backup`")
        if kind == "s3":
            lacks = [key for key in S3_NEEDS if not each.get(key)]
            problems += [f"{name}: {key} is missing" for key in lacks]
        if not str(each.get("path", "/")).startswith("/"):
            problems.append(f"{name}: path {each['path']!r} does not begin with /")
    hosts = {_keeper(each, keepers) for each in repositories if each.get("type") == "host"}
    if len(hosts) > 1:
        problems.append(
            f"{where} names {len(hosts)} repository hosts, and backups are taken on one: keep one, "
            "and add a directory or S3 storage beside it"
        )
    return problems


def _section(name: str, options: Mapping[str, Any]) -> str:
    lines = [f"[{name}]"]
    for key, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                shown = {True: "y", False: "n"}.get(each, each) if isinstance(each, bool) else each
                lines.append(f"{key}={shown}")
    return "\n".join(lines) + "\n"


def _file(shared: Mapping[str, Any], stanza: str) -> str:
    return f"{HEADER}{_section('global', shared)}\n{stanza}"


def _s3(prefix: str, each: Mapping[str, Any]) -> dict[str, Any]:
    host, _colon, port = str(each["endpoint"]).partition(":")
    return {
        f"{prefix}type": "s3",
        f"{prefix}s3-bucket": each["bucket"],
        f"{prefix}s3-endpoint": host,
        f"{prefix}storage-port": port or None,
        f"{prefix}s3-region": each.get("region", "us-east-1"),
        f"{prefix}s3-key": each["key"],
        f"{prefix}s3-key-secret": each["key_secret"],
        f"{prefix}s3-uri-style": each.get("uri_style", "host"),
        f"{prefix}storage-ca-file": each.get("ca_file"),
    }


def _kept(prefix: str, each: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a repository is kept, for who reaches its files itself."""
    options: dict[str, Any] = _s3(prefix, each) if each["type"] == "s3" else {}
    options[f"{prefix}path"] = each.get("path", "/var/lib/pgbackrest")
    if each.get("cipher", True):
        options[f"{prefix}cipher-type"] = "aes-256-cbc"
        options[f"{prefix}cipher-pass"] = each.get("cipher_pass") or facts["cipher_pass"]
    options[f"{prefix}retention-full"] = each.get("retention_full", 2)
    options[f"{prefix}retention-diff"] = each.get("retention_diff") or None
    options[f"{prefix}bundle"] = True
    if int(facts["postgresql_version"]) >= BLOCKS_SINCE:
        options[f"{prefix}block"] = True
    return options


def _far(prefix: str, address: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return how another host is reached."""
    tls = facts["tls"]
    return {
        f"{prefix}host": address,
        f"{prefix}host-type": "tls",
        f"{prefix}host-port": facts["port"],
        f"{prefix}host-ca-file": tls["ca"],
        f"{prefix}host-cert-file": tls["cert"],
        f"{prefix}host-key-file": tls["key"],
    }


def _keeper(each: Mapping[str, Any], keepers: list[str]) -> str:
    return str(each.get("host") or (keepers or [""])[0])


def _is_far(each: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    return bool(each["type"] == "host" and _keeper(each, facts["keepers"]) != facts["name"])


def _repositories(facts: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for number, each in enumerate(facts["repositories"], 1):
        prefix = f"repo{number}-"
        if _is_far(each, facts):
            options |= _far(prefix, facts["addresses"][_keeper(each, facts["keepers"])], facts)
        else:
            options |= _kept(prefix, each, facts)
    return options


def _global(facts: Mapping[str, Any]) -> dict[str, Any]:
    compress = facts["compress_type"]
    return {
        **_repositories(facts),
        "process-max": facts["processes"],
        "compress-type": compress,
        "compress-level": facts["compress_level"] if compress != "none" else None,
        "log-level-console": "warn",
        "log-level-file": "detail",
        "start-fast": True,
        "archive-timeout": 60,
        "protocol-timeout": 1830,
        "db-timeout": 1800,
    }


def _server(facts: Mapping[str, Any]) -> dict[str, Any]:
    tls = facts["tls"]
    others = [address for name, address in facts["addresses"].items() if name != facts["name"]]
    return {
        "tls-server-address": facts["addresses"][facts["name"]],
        "tls-server-port": facts["port"],
        "tls-server-ca-file": tls["ca"],
        "tls-server-cert-file": tls["cert"],
        "tls-server-key-file": tls["key"],
        # Listing an archive, by which a member finds gaps, is of no stanza in pgBackRest's eyes.
        "tls-server-auth": [
            f"{address}={'*' if facts['name'] in facts['keepers'] else facts['stanza']}"
            for address in others
        ],
    }


def _instance(number: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"pg{number}-path": facts["data_dir"],
        f"pg{number}-port": facts["postgresql_port"],
        f"pg{number}-socket-path": facts["socket_dir"],
    }


def _stanza(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members: the own one first, for that is whose files local commands are about."""
    own = [facts["name"]] if facts["is_member"] else []
    others = [name for name in facts["members"] if name not in own]
    if own and any(_is_far(each, facts) for each in facts["repositories"]):
        # pgBackRest refuses members elsewhere together with a repository elsewhere.
        others = []
    options: dict[str, Any] = {}
    for number, name in enumerate(own + others, 1):
        if name != facts["name"]:
            options |= _far(f"pg{number}-", facts["addresses"][name], facts)
        options |= _instance(number, facts)
    # A standby gives its time, where there is one; whoever takes a backup says when there is none.
    return options | {
        "backup-standby": True if len(options) > 3 and len(facts["members"]) > 1 else None
    }


def _clone(facts: Mapping[str, Any]) -> dict[str, str]:
    clone = facts["clone"]
    if not clone.get("cluster"):
        return {}
    if clone.get("repository"):
        each = {"path": "/var/lib/pgbackrest", **clone["repository"]}
        if problems := repository_problems([each], facts["keepers"], "pgbackrest_clone.repository"):
            raise AnsibleFilterError("; ".join(problems))
        source = _kept("repo1-", each, facts)
    else:
        source = _repositories(facts)
    options = {**source, "process-max": facts["processes"], "log-level-file": "off"}
    stanza = _section(str(clone["cluster"]), _instance(1, facts))
    return {"clone.conf": _file(options, stanza)}


def pgbackrest_config(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the files of a host; raises AnsibleFilterError for repositories that cannot be."""
    if problems := repository_problems(facts["repositories"], facts["keepers"]):
        raise AnsibleFilterError("; ".join(problems))
    shared = _global(facts)
    given = facts["config"]
    queue = facts["queue_bytes"]
    main = {
        **shared,
        **_server(facts),
        "archive-async": True,
        "spool-path": SPOOL,
        "archive-get-queue-max": "128MiB",
        "archive-push-queue-max": f"{queue // 2**20}MiB" if queue else None,
        **given,
    }
    # One process at a time has the spool, and that is the member's.
    local = {**shared, "lock-path": "/run/pgherd-backup/lock.d", "log-level-file": "off", **given}
    stanza = facts["stanza"]
    return {
        "pgbackrest.conf": _file(main, _section(stanza, _stanza(facts))),
        "local.conf": _file(local, _section(stanza, _instance(1, facts))),
        **_clone(facts),
    }


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"pgbackrest_config": pgbackrest_config}
