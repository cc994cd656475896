# SPDX-License-Identifier: GPL-3.0-or-later
"""HAProxy's configuration from data."""

from __future__ import annotations

DOCUMENTATION = r"""
name: haproxy_config
short_description: HAProxy's configuration from data
description:
  - Returns the text of haproxy.cfg for the members of a cluster, with the overrides in.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
positional: overrides
options:
  _input:
    description: What the role haproxy knows, by the names of its C(__haproxy_plan).
    type: dict
    required: true
  overrides:
    description:
      - Sections by name, as C(global) or C(backend rw), each a mapping of keywords to a value,
        a list of values, or null for a keyword that is to go.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show the configuration
  ansible.builtin.debug:
    msg: "{{ __haproxy_plan | pgherd.cluster.haproxy_config({'global': {'maxconn': 20000}}) }}"
"""

RETURN = r"""
_value:
  description: The text.
  type: str
"""

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError
from ansible_collections.pgherd.cluster.plugins.module_utils._haproxy_access import (
    FALLBACKS,
    TARGETS,
    AccessError,
    Listener,
    Rule,
    access_lines,
    listeners,
    rules,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

Sections = dict[str, dict[str, Any]]
# Where the states of the servers are written before HAProxy starts or reloads.
STATE_FILE = "/run/haproxy/pgherd-servers.state"
RISE = 1
DIRECT_FALL = 2
# A client's host that vanished is noticed by keepalive; nothing waits for it.
CLIENT_IDLE = "30s"
CLIENT_LOST = "60s"
# HAProxy wants every timeout set; this is the longest it knows.
NEVER = "24d"
KINDS = ("global", "defaults", "frontend", "backend", "listen", "userlist", "peers", "resolvers",
         "mailers", "cache", "ring", "program", "http-errors", "log-forward")  # fmt: skip
# Keywords that others refer to, or that have to stand before the rest.
FIRST = ("mode", "bind", "acl")


def haproxy_config(plan: dict[str, Any], overrides: dict[str, Any] | None = None) -> str:
    """Return haproxy.cfg for *plan*; raises AnsibleFilterError, naming the variable at fault."""
    try:
        sections = _sections(plan)
    except AccessError as error:
        raise AnsibleFilterError(str(error)) from error
    _merge(sections, overrides or {})
    return "\n".join(_text(name, lines) for name, lines in sections.items())


def haproxy_servers(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every server with what tells whether it is fit, for the program that looks first."""
    try:
        targets = _targets(*_access(plan))
    except AccessError as error:
        raise AnsibleFilterError(str(error)) from error
    return [
        {
            "backend": target,
            "server": host,
            "address": address,
            "port": _port(plan, target, host),
            "check_port": plan["ports"]["rest"],
            "path": _path(plan, target),
            "health": RISE + _fall(plan, target) - 1,
        }
        for target in targets
        for host, address in plan["hosts"].items()
    ]


def haproxy_ports(plan: dict[str, Any]) -> dict[str, int]:
    """Return the ports HAProxy listens on by listener; raises AnsibleFilterError for a clash."""
    try:
        clients, _rules = _access(plan)
    except AccessError as error:
        raise AnsibleFilterError(str(error)) from error
    found: dict[str, int] = {"statistics": plan["statistics"]["port"]}
    found |= {listener.name: listener.port for listener in clients}
    owners = {port: f"haproxy's listener {name}" for name, port in reversed(found.items())}
    for name, port in found.items():
        taken = {number: f"the port of {what}" for what, number in plan["taken"].items()}
        owner = taken.get(port) or owners[port]
        if owner != f"haproxy's listener {name}":
            raise AnsibleFilterError(
                f"haproxy's listener {name}: port {port} is {owner}; choose another"
            )
    return found


def _access(plan: dict[str, Any]) -> tuple[list[Listener], list[Rule]]:
    clients = listeners(plan["listeners"], plan["more_listeners"], plan["guests"], plan["own"])
    return clients, rules(plan["acl"], [listener.name for listener in clients])


def _targets(clients: list[Listener], all_rules: list[Rule]) -> list[str]:
    """Return the backends that somebody can come to."""
    used = {listener.to for listener in clients} | {rule.to for rule in all_rules if rule.to}
    used |= {FALLBACKS[target] for target in used if target in FALLBACKS}
    return [target for target in TARGETS if target in used]


def _sections(plan: dict[str, Any]) -> Sections:
    clients, all_rules = _access(plan)
    sections: Sections = {"global": _global(plan), "defaults": _defaults(plan)}
    sections |= _statistics(plan)
    for listener in clients:
        sections[f"frontend {listener.name}"] = {
            "bind": _binds(plan, listener.port, f" tcp-ut {CLIENT_LOST}"),
            **access_lines(listener, all_rules),
        }
    for target in _targets(clients, all_rules):
        sections[f"backend {target}"] = _backend(plan, target)
    return sections


def _global(plan: dict[str, Any]) -> dict[str, Any]:
    return {
        "log": "/dev/log local0",
        "chroot": "/var/lib/haproxy",
        "user": "haproxy",
        "group": "haproxy",
        "stats socket": "/run/haproxy/admin.sock mode 660 level admin expose-fd listeners",
        "stats timeout": "30s",
        "server-state-file": STATE_FILE,
        "nbthread": plan["threads"],
        "maxconn": plan["max_connections"],
    }


def _defaults(plan: dict[str, Any]) -> dict[str, Any]:
    timings = plan["timings"]
    idle = f"{plan['idle_timeout_seconds']}s" if plan["idle_timeout_seconds"] else NEVER
    probe = f"{max(1, int(timings['balancer_tcp_timeout_ms']) // 3000)}s"
    return {
        "mode": "tcp",
        "log": "global",
        "option tcplog": "",
        "option dontlognull": "",
        "option dontlog-normal": "",
        # A connection that one pooler refuses goes to the next.
        "retries": 3,
        "option redispatch": 1,
        # Also how long a check may take to connect; only then its own timeout begins.
        "timeout connect": f"{int(timings['balancer_check_timeout_ms'])}ms",
        "timeout check": f"{int(timings['balancer_check_timeout_ms'])}ms",
        "timeout client": idle,
        "timeout server": idle,
        "timeout queue": "10s",
        "option clitcpka": "",
        "clitcpka-idle": CLIENT_IDLE,
        "clitcpka-intvl": "10s",
        "clitcpka-cnt": 3,
        "option srvtcpka": "",
        "srvtcpka-idle": probe,
        "srvtcpka-intvl": probe,
        "srvtcpka-cnt": 3,
        "load-server-state-from-file": "global",
    }


def _statistics(plan: dict[str, Any]) -> Sections:
    said = plan["statistics"]
    allowed = [*plan["own"], *said["networks"]]
    page: dict[str, Any] = {
        "mode": "http",
        "bind": _binds(plan, said["port"], "", here=True),
        "acl": [f"known src {network}" for network in allowed],
        "option dontlog-normal": "",
        "timeout client": "30s",
        "timeout http-request": "5s",
        # Answered before all rules: whether this HAProxy works.
        "monitor-uri": "/health",
        "http-request": ["deny unless known"],
        "stats": ["enable", "uri /", "refresh 5s", "show-legends", "hide-version"],
    }
    sections: Sections = {}
    if said["password"]:
        sections["userlist statistics"] = {
            "user": f"{said['username']} insecure-password {_quoted(said['password'])}"
        }
        page["http-request"] += ["auth realm HAProxy unless { http_auth(statistics) }"]
    answer = "return content-type text/plain status"
    page["http-request"] += [
        "use-service prometheus-exporter if { path /metrics }",
        f"{answer} 200 string ready if {{ path /ready }} {{ nbsrv(rw) gt 0 }}",
        f"{answer} 503 string none if {{ path /ready }}",
    ]
    return {**sections, "frontend statistics": page}


def _quoted(text: str) -> str:
    """Return *text* as one word of the configuration, nothing in it expanded."""
    return "'" + text.replace("'", "'\\''") + "'"


def _backend(plan: dict[str, Any], target: str) -> dict[str, Any]:
    lost = int(plan["timings"]["balancer_tcp_timeout_ms"])
    backend: dict[str, Any] = {
        "balance": "leastconn",
        "option httpchk": f"GET {_path(plan, target)}",
        "http-check": "expect status 200",
        "default-server": _server_options(plan, target),
        # Of all options this one HAProxy does not take over from default-server (seen with 3.0).
        "server": [
            f"{host} {_joined(address, _port(plan, target, host))} tcp-ut {lost}ms"
            for host, address in plan["hosts"].items()
        ],
    }
    near = plan["near"]
    if target == "rw" and _is_pooled(plan, target) and near["sessions"] and near["host"]:
        # Only while it is fit, and only at the first try: what it refuses goes to another.
        few = f"srv_conn({target}/{near['host']}) lt {near['sessions']}"
        backend["use-server"] = f"{near['host']} if {{ {few} }}"
    return backend


def _server_options(plan: dict[str, Any], target: str) -> str:
    timings = {name: int(value) for name, value in plan["timings"].items()}
    writes = FALLBACKS.get(target) is None
    pooled = _is_pooled(plan, target)
    # A new leader is found soon; a standby that keeps up again has time.
    down = timings["balancer_check_fast_ms" if writes else "balancer_check_ms"]
    words = [
        f"check port {plan['ports']['rest']}",
        f"inter {timings['balancer_check_ms']}ms",
        f"fastinter {timings['balancer_check_fast_ms']}ms",
        f"downinter {down}ms",
        f"fall {_fall(plan, target)} rise {RISE}",
        # A connection that fails brings the next check forward; it alone condemns nobody.
        "observe layer4 error-limit 1 on-error fastinter",
    ]
    if plan["slow_start_seconds"]:
        words.append(f"slowstart {plan['slow_start_seconds']}s")
    # Not where standbys answer: a long query lives on when its standby falls behind. And a
    # PostgreSQL that is primary no more ends its sessions itself.
    if writes and pooled:
        words.append("on-marked-down shutdown-sessions")
    return " ".join(words)


def _fall(plan: dict[str, Any], target: str) -> int:
    """Return how many checks in a row have to fail.

    A pooler outlives the restart of its agent; a server that is primary no more is left sooner.
    """
    if target in FALLBACKS or _is_pooled(plan, target):
        return int(plan["timings"]["balancer_check_fall"])
    return DIRECT_FALL


def _is_pooled(plan: dict[str, Any], target: str) -> bool:
    return bool(plan["pooler"]) and not target.startswith("direct_")


def _path(plan: dict[str, Any], target: str) -> str:
    """Return what the agent is asked about a server of *target*."""
    lag = f"?lag={plan['ro_lag_mb']}MB"
    pooled = _is_pooled(plan, target)
    if target == "sync":
        return str(plan["sync_check"])
    if target in FALLBACKS:
        return ("/pooler/ro" if pooled else "/replica") + lag
    return "/pooler/rw" if pooled else "/primary"


def _port(plan: dict[str, Any], target: str, host: str) -> int:
    if not _is_pooled(plan, target):
        return int(plan["postgresql_ports"][host])
    return int(plan["ports"]["pooler_rw" if target == "rw" else "pooler_ro"])


def _binds(plan: dict[str, Any], port: int, options: str, *, here: bool = False) -> list[str]:
    """Return where to listen; *here*: on this host's own address of loopback in any case."""
    addresses = list(plan["bind_addresses"])
    if not addresses:
        addresses = ["0.0.0.0"]
        spoken = [*plan["hosts"].values(), *plan["own"]]
        if any(":" in address and address != "::1" for address in spoken):
            addresses.append("::")
    elif here and not {"127.0.0.1", "0.0.0.0"} & set(addresses):
        addresses.append("127.0.0.1")
    return [
        _joined(address, port) + (" v6only" if ":" in address else "") + options
        for address in addresses
    ]


def _joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _merge(sections: Sections, overrides: dict[str, Any]) -> None:
    """Put *overrides* into *sections*, keyword by keyword; a new section comes last."""
    for name, keywords in overrides.items():
        where = f"haproxy_config[{name!r}]"
        kind, _blank, rest = str(name).partition(" ")
        if kind not in KINDS:
            raise AnsibleFilterError(
                f"{where}: there is no section {kind}{did_you_mean(kind, KINDS)}"
            )
        if (kind in ("global", "defaults")) == bool(rest.strip()):
            remedy = "has no name" if rest.strip() else f"needs a name, as `{kind} NAME`"
            raise AnsibleFilterError(f"{where}: the section {kind} {remedy}")
        if not isinstance(keywords, dict):
            raise AnsibleFilterError(f"{where}: {keywords!r} is no mapping of keywords to values")
        section = sections.setdefault(str(name), {})
        for keyword, value in keywords.items():
            if value is None:
                section.pop(keyword, None)
            else:
                section[keyword] = value


def _text(name: str, section: dict[str, Any]) -> str:
    ordered = sorted(section, key=lambda key: FIRST.index(key) if key in FIRST else len(FIRST))
    lines = [name]
    for keyword in ordered:
        value = section[keyword]
        for one in value if isinstance(value, list) else [value]:
            word = f"{one}".lower() if isinstance(one, bool) else f"{one}"
            lines.append(f"    {keyword} {word}".rstrip())
    return "\n".join(lines) + "\n"


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            "haproxy_config": haproxy_config,
            "haproxy_ports": haproxy_ports,
            "haproxy_servers": haproxy_servers,
        }
