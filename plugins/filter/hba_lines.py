# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of pg_hba.conf from data."""

from __future__ import annotations

DOCUMENTATION = r"""
name: hba_lines
short_description: Lines of pg_hba.conf from data
description:
  - Renders a list of rules, each a mapping with type, database, user, address, method and options,
    or a line as it is.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
options:
  _input:
    description: The rules.
    type: list
    elements: raw
    required: true
"""

EXAMPLES = r"""
- name: Show a line
  ansible.builtin.debug:
    msg: "{{ [{'user': 'app', 'address': '10.0.0.0/8'}] | pgherd.cluster.hba_lines }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

import ipaddress
import re
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError
from ansible_collections.pgherd.cluster.plugins.module_utils._nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TYPES = ("local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc")
METHODS = ("scram-sha-256", "cert", "peer", "ident", "reject", "trust", "md5", "password", "gss",
           "ldap", "radius", "pam")  # fmt: skip
KEYS = ("type", "database", "user", "address", "method", "options")
POOLER_TYPES = ("local", "host", "hostssl", "hostnossl")
POOLER_METHODS = ("scram-sha-256", "md5", "cert", "peer", "trust", "reject")
ADDRESS_WORDS = ("all", "samehost", "samenet")


def hba_lines(rules: list[dict[str, Any] | str], name: str = "postgresql_hba") -> list[str]:
    """Return one line of pg_hba.conf for each of *rules*, in their order.

    A rule's defaults: type host, database all, user all, method scram-sha-256. A text is a line.
    Raises AnsibleFilterError that names the rule's place in the variable *name* and the key.
    """
    return [_line(rule, f"{name}[{place}]") for place, rule in enumerate(rules)]


def cluster_hba(
    rules: list[dict[str, Any] | str], members: list[str], networks: list[str]
) -> list[str]:
    """Return all lines of a cluster's pg_hba.conf; the first that matches a client decides.

    First what the cluster needs to live (this host, then every address of *members* for
    replication and rewinding), then *rules*, then a password for everybody in *networks*.
    Raises AnsibleFilterError.
    """
    if not isinstance(networks, list):
        raise AnsibleFilterError(
            f"cluster_client_networks: {networks!r} is no list of networks; write [{networks}]"
        )
    own: list[dict[str, Any] | str] = [
        {"type": "local", "user": "postgres", "method": "peer"},
        {"type": "local", "database": "replication", "user": "postgres", "method": "peer"},
        {"type": "local"},
        {"address": "127.0.0.1/32"},
        {"address": "::1/128"},
    ]
    for member in members:
        own += [{"database": "replication", "address": member}, {"address": member}]
    own_guests: list[dict[str, Any] | str] = [{"address": network} for network in networks]
    guests = hba_lines(own_guests, "cluster_client_networks")
    return hba_lines(own, "members") + hba_lines(rules) + guests


def complete_hba(
    rules: list[dict[str, Any] | str],
    members: list[str],
    replication: str,
    rewind: str,
    poolers: Sequence[str] = (),
) -> list[str]:
    """Return *rules* as lines, and before them nothing but what the agents themselves need.

    *replication* and *rewind* are their accounts, whose passwords may be stored either way: md5
    takes a SCRAM verifier, too. Clients of *poolers* come from those addresses and through the
    socket: what no rule decides about them needs a password. Raises AnsibleFilterError.
    """
    own: list[dict[str, Any] | str] = [{"type": "local", "user": "postgres", "method": "peer"}]
    for member in members:
        for database, user in (("replication", replication), ("postgres", rewind)):
            own.append({"database": database, "user": user, "address": member, "method": "md5"})
    guests: list[dict[str, Any] | str] = [{"type": "local"}] if poolers else []
    guests += [{"address": pooler} for pooler in poolers]
    return hba_lines(own, "members") + hba_lines(rules) + hba_lines(guests, "poolers")


def pooler_hba(
    rules: list[dict[str, Any] | str],
    hosts: list[str],
    networks: list[str],
    lookup_user: str,
    lookup_database: str = "",
) -> list[str]:
    """Return all lines of the poolers' own pg_hba.conf.

    First nobody comes as *lookup_user* or to *lookup_database*, which are the poolers' own; then a
    password for this host and every address of *hosts*, balancers among them; then *rules*; then
    a password for everybody in *networks*.
    Raises AnsibleFilterError, also for what PgBouncer does not know.
    """
    for place, rule in enumerate(rules):
        where = f"pgbouncer_hba[{place}]"
        if not isinstance(rule, dict):
            raise AnsibleFilterError(f"{where}: {rule!r} must be a mapping")
        for key, known in (("type", POOLER_TYPES), ("method", POOLER_METHODS)):
            if key in rule and rule[key] not in known:
                raise AnsibleFilterError(
                    f"{where}.{key}: PgBouncer knows {', '.join(known)}, and not {rule[key]!r}"
                )
        if rule.get("address") in ADDRESS_WORDS[1:]:
            raise AnsibleFilterError(
                f"{where}.address: PgBouncer knows networks and `all`, and not {rule['address']}"
            )
    own: list[dict[str, Any] | str] = []
    for hidden in (
        {"user": lookup_user},
        *([{"database": lookup_database}] if lookup_database else []),
    ):
        own.append({**hidden, "type": "local", "method": "reject"})
        own += [{**hidden, "address": net, "method": "reject"} for net in ("0.0.0.0/0", "::/0")]
    own += [{"type": "local"}, {"address": "127.0.0.1/32"}, {"address": "::1/128"}]
    own += [{"address": host} for host in hosts]
    guests: list[dict[str, Any] | str] = [{"address": network} for network in networks]
    return (
        hba_lines(own, "hosts")
        + hba_lines(rules, "pgbouncer_hba")
        + hba_lines(guests, "cluster_client_networks")
    )


def _line(rule: dict[str, Any] | str, where: str) -> str:
    if isinstance(rule, str):
        if not rule.strip() or "\n" in rule.strip():
            raise AnsibleFilterError(f"{where}: {rule!r} is not one line")
        return rule.strip()
    for key in rule:
        if key not in KEYS:
            raise AnsibleFilterError(f"{where}: there is no key {key}{did_you_mean(key, KEYS)}")
    kind = str(rule.get("type", "host"))
    method = str(rule.get("method", "scram-sha-256"))
    address = str(rule.get("address", ""))
    for key, value, choices in (("type", kind, TYPES), ("method", method, METHODS)):
        if value not in choices:
            raise AnsibleFilterError(f"{where}.{key}: {value!r} is none of {', '.join(choices)}")
    if (kind == "local") == bool(address):
        remedy = "takes no address" if address else "needs an address"
        raise AnsibleFilterError(f"{where}: a rule of type {kind} {remedy}")
    words = [kind, _names(rule, "database", where), _names(rule, "user", where)]
    if address:
        words.append(_address(address, where))
    words.append(method)
    options = rule.get("options", {})
    words += [f'{name}="{value}"' for name, value in sorted(options.items())]
    return " ".join(words)


def _names(rule: dict[str, Any], key: str, where: str) -> str:
    """Return database or user, one name or a list of them, quoted where the file needs it."""
    value = rule.get(key, "all")
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise AnsibleFilterError(f"{where}.{key}: {value!r} is neither a name nor a list of names")
    return ",".join(
        name if re.fullmatch(r"[+/]?[\w$.-]+", name) else '"' + name.replace('"', '""') + '"'
        for name in names
    )


def _address(address: str, where: str) -> str:
    """Return an address as the file wants it; a network must be one, a name is left alone."""
    if address in ADDRESS_WORDS:
        return address
    try:
        return str(ipaddress.ip_network(address))
    except ValueError as error:
        if re.fullmatch(r"\.?[A-Za-z][A-Za-z0-9.-]*", address):
            return address
        raise AnsibleFilterError(f"{where}.address: {error}") from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            "hba_lines": hba_lines,
            "cluster_hba": cluster_hba,
            "complete_hba": complete_hba,
            "pooler_hba": pooler_hba,
        }
