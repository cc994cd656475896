# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may come in through HAProxy, and where to. Private to the collection."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.pgherd.cluster.plugins.module_utils._nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

ACTIONS = ("allow", "deny", "route")
TARGETS = ("rw", "ro", "sync", "direct_rw", "direct_ro")
# Where a connection goes when nobody of its target is fit.
FALLBACKS = {"ro": "rw", "sync": "rw", "direct_ro": "direct_rw"}
RULE_KEYS = ("listener", "networks", "databases", "users", "action", "to")
LISTENER_KEYS = ("port", "to", "networks")
# Names that stand for something else already.
RESERVED = ("statistics", "all")
# How long a client may take to say which database it wants, where that decides.
STARTUP_WAIT = "5s"
# The first bytes of PostgreSQL's protocol 3: a startup message, or a request to cancel. What asks
# for encryption first shows no names.
STARTUP = "{ req.payload(4,2),hex 0003 }"
CANCEL = "{ req.payload(4,4),hex 04D2162E }"
COMPLETE = "{ req.payload(8,0),hex -m end 0000 }"


class AccessError(ValueError):
    """What a variable says cannot be; the text names variable, value and remedy."""


@dataclass(frozen=True)
class Rule:
    """One entry of haproxy_acl; empty networks, databases and users match all."""

    listeners: tuple[str, ...]
    networks: tuple[str, ...]
    databases: tuple[str, ...]
    users: tuple[str, ...]
    action: str
    to: str

    @property
    def is_named(self) -> bool:
        """Tell whether the rule looks at what the client says of itself."""
        return bool(self.databases or self.users)


@dataclass(frozen=True)
class Listener:
    """A port for clients; *networks* are those that are let in when no rule says anything."""

    name: str
    port: int
    to: str
    networks: tuple[str, ...]


def listeners(
    ports: dict[str, int], extra: Any, networks: Iterable[str], own: Iterable[str]
) -> list[Listener]:
    """Return the listeners: those of *ports* that are not 0, and haproxy_listeners (*extra*).

    *networks* come in everywhere by default, the cluster's *own* hosts always. Raises AccessError.
    """
    always = _networks(list(own), "cluster_address")
    usual = _networks(list(networks), "cluster_client_networks")
    found = [Listener(name, port, name, usual + always) for name, port in ports.items() if port]
    if not isinstance(extra, dict):
        raise AccessError(f"haproxy_listeners: {extra!r} is no mapping of names to listeners")
    for name, entry in extra.items():
        where = f"haproxy_listeners.{name}"
        _check_name(str(name), where)
        _check_keys(entry, LISTENER_KEYS, where)
        allowed = usual
        if "networks" in entry:
            allowed = _networks(entry["networks"], f"{where}.networks")
        port = entry.get("port")
        if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
            raise AccessError(f"{where}.port: {port!r} is no port; give one from 1 to 65535")
        to = _choice(entry.get("to", ""), TARGETS, f"{where}.to")
        found.append(Listener(str(name), port, to, allowed + always))
    return found


def rules(entries: Any, names: Iterable[str]) -> list[Rule]:
    """Return the rules of haproxy_acl for listeners called *names*; raises AccessError."""
    if not isinstance(entries, list):
        raise AccessError(f"haproxy_acl: {entries!r} is no list of rules")
    known = tuple(names)
    return [_rule(entry, f"haproxy_acl[{n}]", known) for n, entry in enumerate(entries)]


def _rule(entry: Any, where: str, names: tuple[str, ...]) -> Rule:
    _check_keys(entry, RULE_KEYS, where)
    chosen = entry.get("listener", "all")
    wanted = chosen if isinstance(chosen, list) else [chosen]
    if wanted == ["all"]:
        wanted = list(names)
    for name in wanted:
        _choice(name, names, f"{where}.listener")
    action = _choice(entry.get("action", "allow"), ACTIONS, f"{where}.action")
    if (action == "route") != ("to" in entry):
        remedy = "needs `to`" if action == "route" else "takes no `to`"
        raise AccessError(f"{where}: a rule with action {action} {remedy}")
    return Rule(
        listeners=tuple(wanted),
        networks=_networks(entry.get("networks", []), f"{where}.networks"),
        databases=_words(entry, "databases", where),
        users=_words(entry, "users", where),
        action=action,
        to=_choice(entry["to"], TARGETS, f"{where}.to") if action == "route" else "",
    )


def _check_name(name: str, where: str) -> None:
    if name in (*TARGETS, *RESERVED) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        taken = ", ".join((*TARGETS, *RESERVED))
        raise AccessError(
            f"{where}: {name!r} cannot be the name of a listener; take letters, digits, _ and -,"
            f" beginning with a letter, and none of {taken}"
        )


def _check_keys(entry: Any, known: tuple[str, ...], where: str) -> None:
    if not isinstance(entry, dict):
        raise AccessError(f"{where}: {entry!r} is no mapping with {', '.join(known)}")
    for key in entry:
        if key not in known:
            raise AccessError(f"{where}: there is no key {key}{did_you_mean(str(key), known)}")


def _choice(value: Any, choices: tuple[str, ...], where: str) -> str:
    if value not in choices:
        hint = did_you_mean(str(value), choices)
        raise AccessError(f"{where}: {value!r} is none of {', '.join(choices)}{hint}")
    return str(value)


def _networks(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise AccessError(f"{where}: {value!r} is no list of networks; write [{value}]")
    try:
        return tuple(str(ipaddress.ip_network(network)) for network in value)
    except ValueError as error:
        raise AccessError(f"{where}: {error}") from error


def _words(entry: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = entry.get(key, [])
    if not isinstance(value, list) or not all(isinstance(word, str) and word for word in value):
        raise AccessError(f"{where}.{key}: {value!r} is no list of names; write [{value}]")
    return tuple(value)


def access_lines(listener: Listener, all_rules: list[Rule]) -> dict[str, list[str]]:
    """Return the lines of a frontend that let clients in, by keyword; the first match decides."""
    chosen = [rule for rule in all_rules if listener.name in rule.listeners]
    acls = [line for n, rule in enumerate(chosen) for line in _acls(n, rule)]
    acls += [f"known src {network}" for network in listener.networks]
    verdicts = _verdicts(chosen)
    verdicts += ["accept if known", "reject"] if listener.networks else ["reject"]
    routes = list(dict.fromkeys(rule.to for rule in chosen if rule.to))
    if not routes and not any(rule.is_named for rule in chosen):
        lines = {"acl": acls, "tcp-request connection": verdicts}
    else:
        lines = {"acl": acls, "tcp-request content": verdicts}
    if any(rule.is_named for rule in chosen):
        lines["tcp-request inspect-delay"] = [STARTUP_WAIT]
    lines["use_backend"] = [line for to in routes for line in _route(to)]
    lines["use_backend"] += _fallback(listener.to, "")
    lines["default_backend"] = [listener.to]
    return lines


def _route(to: str) -> list[str]:
    condition = f"{{ var(txn.route) -m str {to} }}"
    return [*_fallback(to, condition + " "), f"{to} if {condition}"]


def _fallback(to: str, condition: str) -> list[str]:
    if to not in FALLBACKS:
        return []
    return [f"{FALLBACKS[to]} if {condition}{{ nbsrv({to}) eq 0 }}"]


def _acls(number: int, rule: Rule) -> list[str]:
    lines = [f"from_{number} src {network}" for network in rule.networks]
    for kind, key, names in (
        ("database", "database", rule.databases),
        ("user", "user", rule.users),
    ):
        lines += [f"{kind}_{number} var(txn.startup) -m sub {_pair(key, name)}" for name in names]
    return lines


def _pair(key: str, name: str) -> str:
    """Return a pair of the startup message in hexadecimal, with the zeros around it."""
    return b"\0".join([b"", key.encode(), name.encode(), b""]).hex().upper()


def _verdicts(chosen: list[Rule]) -> list[str]:
    """Return what each rule does, in their order."""
    lines = []
    names_are_read = False
    for number, rule in enumerate(chosen):
        if rule.is_named and not names_are_read:
            lines += [
                f"set-var(txn.startup) str(cancel) if {CANCEL}",
                f"set-var-fmt(txn.startup) 00%[req.payload(8,0),hex] if {STARTUP} {COMPLETE}",
            ]
            names_are_read = True
        lines += _verdict(number, rule)
    return lines


def _verdict(number: int, rule: Rule) -> list[str]:
    origin = [f"from_{number}"] if rule.networks else []
    named = [f"database_{number}"] if rule.databases else []
    named += [f"user_{number}"] if rule.users else []
    match = _given([*origin, *named])
    if rule.action == "route":
        return [f"set-var(txn.route) str({rule.to}){match}", f"accept{match}"]
    if rule.action == "allow":
        # A request to cancel names nobody; it may come from where the client may come from.
        cancel = [*origin, "{ var(txn.startup) -m str cancel }"]
        return [f"accept{match}", *([f"accept{_given(cancel)}"] if named else [])]
    # Who hides the names is denied, too; else encryption would be the way around the rule.
    hidden = [*origin, "!{ var(txn.startup) -m found }"]
    return [f"reject{match}", *([f"reject{_given(hidden)}"] if named else [])]


def _given(conditions: list[str]) -> str:
    return " if " + " ".join(conditions) if conditions else ""
