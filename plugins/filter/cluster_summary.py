# SPDX-License-Identifier: GPL-3.0-or-later
"""The text a run ends with."""

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster_summary
short_description: The text a run ends with
description:
  - Returns members, leader, endpoints, how to connect and warnings as one text.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
positional: settings, warnings
options:
  _input:
    description: What P(pgherd.cluster.cluster_info#module) returned.
    type: dict
    required: true
  settings:
    description:
      - C(name), C(addresses), C(port), C(etcd) (URLs), C(rest_port), C(password_file).
      - C(entry), what P(pgherd.cluster.cluster_entry#filter) returned.
    type: dict
    required: true
  warnings:
    description: Sentences.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show the text
  ansible.builtin.debug:
    msg: "{{ __agent_cluster | pgherd.cluster.cluster_summary(__agent_places, []) }}"
"""

RETURN = r"""
_value:
  description: The text.
  type: str
"""

import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WIDTH = 100


def member_table(cluster: Mapping[str, Any], addresses: Mapping[str, str]) -> list[str]:
    """Return a line for each member: name, address, role, state, timeline."""
    rows = [("MEMBER", "ADDRESS", "ROLE", "STATE", "TIMELINE")]
    for member in cluster.get("members", []):
        name = str(member.get("name", ""))
        rows.append(
            (
                name,
                str(member.get("host", addresses.get(name, ""))),
                str(member.get("role", "")),
                str(member.get("state", "")),
                str(member.get("timeline", "")),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def connect(settings: Mapping[str, Any]) -> str:
    """Return the psql command of an administrator: to the servers, past what is before them."""
    port = settings.get("port", 5432)
    places = [
        f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        for address in settings["addresses"].values()
    ]
    command = (
        f"psql 'postgresql://postgres@{','.join(places)}/postgres?target_session_attrs=read-write'"
    )
    secret = settings.get("password_file")
    return f'PGPASSWORD="$(cat {secret})" {command}' if secret else command


def entry_lines(entry: Mapping[str, Any]) -> list[str]:
    """Return where applications connect, for libpq: to write, and to read.

    A driver that is given several addresses takes the next when one does not answer, or is none
    of the kind that it looks for.
    """
    lines = []
    for use, label, session in (
        ("rw", "write to", "read-write"),
        ("ro", "read from", "prefer-standby"),
    ):
        places = entry.get(use, [])
        if places:
            query = f"?target_session_attrs={session}" if len(places) > 1 else ""
            lines.append(f"{label:<10} postgresql://{','.join(places)}/DATABASE{query}")
    return lines


def cluster_summary(
    cluster: Mapping[str, Any], settings: Mapping[str, Any], warnings: list[str]
) -> str:
    """Return the text: a table of *cluster*'s members, then where things are, then *warnings*."""
    leader = cluster.get("leader")
    headline = f"Cluster {settings['name']}: " + (
        f"{leader} leads" if leader else "not running (a first run without --check starts it)"
    )
    lines = ["", headline, "-" * len(headline)]
    if cluster.get("members"):
        lines += [*member_table(cluster, settings["addresses"]), ""]
    rest = ", ".join(settings.get("rest", []))
    lines += [f"etcd       {', '.join(settings['etcd'])}", f"REST API   {rest}"]
    lines += entry_lines(settings.get("entry", {}))
    lines += ["administer " + connect(settings)]
    if settings.get("password_file"):
        place = settings["password_file"].rsplit("/", 1)[0]
        lines += [f"passwords  {place} (keep a copy: they are nowhere else)"]
    lines += ["members    `pgherd list` on any of the hosts"]
    for warning in [*dict.fromkeys([*cluster.get("problems", []), *warnings])]:
        lines += textwrap.wrap(
            f"WARNING    {warning}", WIDTH, subsequent_indent=" " * 11, break_on_hyphens=False
        )
    return "\n".join([*lines, ""])


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return it by name."""
        return {"cluster_summary": cluster_summary}
