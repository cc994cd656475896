#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read, in one call, what taking a host over from Patroni must know of it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_facts
short_description: Read what Patroni is and runs on a host
description:
  - Finds Patroni's unit and through it its configuration, asks its REST API for the cluster, and
    the PostgreSQL that it runs for the settings in its files.
  - Changes nothing. The result is the fact C(patroni); it holds passwords, so use C(no_log).
  - Once Patroni is stopped for good its unit and its settings are read from the O(note) instead,
    which the role that took over left behind.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
options:
  unit:
    description: Patroni's systemd unit; found by itself when empty.
    type: str
    default: ''
  note:
    description: File with what this module has read while Patroni still ran.
    type: str
    default: /etc/pgherd/adopted.json
  timeout_seconds:
    description: After how many seconds Patroni counts as silent.
    type: float
    default: 5
attributes:
  check_mode:
    description: Reads only, so a check run is a run.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Read Patroni's configuration
  pgherd.cluster.patroni_facts:
  no_log: true
"""

RETURN = r"""
ansible_facts:
  description:
    - The fact V(patroni) with unit, active (Patroni runs), replaced (pgherd runs), path and config
      of its configuration, environment (names of variables that change it), dynamic and members
      (of its REST API), postgres (see below) and problems (what could not be read).
    - V(postgres) has version, recovering, files (name, value and file of every setting in the
      configuration files), hba and ident (lines of those files).
  returned: always
  type: dict
"""

import json
import re
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._http import HttpError, request_json

try:
    import yaml
except ImportError:  # Patroni needs it too, but may have brought its own
    yaml = None  # type: ignore[assignment]

PGHERD = "pgherd.service"
OS_USER = "postgres"
# Names and values as they stand in the files; what ALTER SYSTEM set stays where it is.
SETTINGS = """
SELECT json_build_object(
  'version', current_setting('server_version_num')::int / 10000,
  'recovering', pg_is_in_recovery(),
  'files', (SELECT coalesce(json_agg(json_build_object(
      'name', name, 'value', setting, 'file', sourcefile) ORDER BY seqno), '[]')
    FROM pg_file_settings
    WHERE name IS NOT NULL AND sourcefile !~ '/postgresql\\.auto\\.conf$'),
  'hba_file', current_setting('hba_file'),
  'ident_file', current_setting('ident_file'))
"""


def show(module: AnsibleModule, unit: str, name: str) -> str:
    """Return a property of a unit, empty for a unit that is not there."""
    command = ["systemctl", "show", "--property", name, "--value", unit]
    _code, output, _errors = module.run_command(command)
    return str(output).strip()


def find_unit(module: AnsibleModule) -> str:
    """Return the unit that Patroni runs as, empty when there is none; one that runs comes first."""
    listing = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "patroni*.service"]
    _code, output, _errors = module.run_command(listing)
    rows = [line.split() for line in output.splitlines() if len(line.split()) > 3]
    known = [str(row[0]) for row in rows if row[1] == "loaded"]
    running = [str(row[0]) for row in rows if row[2] in ("active", "activating")]
    if not known and show(module, "patroni.service", "LoadState") == "loaded":
        known = ["patroni.service"]
    return (running or known or [""])[0]


def config_path(command: str) -> str:
    """Return the configuration file in systemd's ExecStart, empty when it names none."""
    found = re.search(r"argv\[\]=([^;]*)", command)
    words = found.group(1).split() if found else []
    return words[-1] if len(words) > 1 and not words[-1].startswith("-") else ""


def environment(pid: str) -> list[str]:
    """Return the names of Patroni's variables in a process' environment."""
    try:
        text = Path("/proc", pid, "environ").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []  # it does not run
    names = [entry.partition("=")[0] for entry in text.split("\0")]
    return sorted(name for name in names if name.startswith("PATRONI_"))


def lines(path: str) -> list[str]:
    """Return what counts of pg_hba.conf or pg_ident.conf: neither comments nor empty lines."""
    text = Path(path).read_text(encoding="utf-8")
    found = (line.strip() for line in text.splitlines())
    return [line for line in found if line and not line.startswith("#")]


def postgres(module: AnsibleModule, config: dict[str, Any]) -> dict[str, Any]:
    """Return what the running PostgreSQL says of itself; raises ValueError when it does not."""
    section = config.get("postgresql", {})
    pid_file = Path(str(section.get("data_dir")), "postmaster.pid")
    try:
        rows = pid_file.read_text(encoding="utf-8").splitlines()
        port, sockets = rows[3].strip(), rows[4].strip()
    except (OSError, IndexError) as error:
        raise ValueError(f"PostgreSQL does not run here ({pid_file})") from error
    login = section.get("authentication", {}).get("superuser", {})
    command = ["runuser", "-u", OS_USER, "--", "psql", "-XAtq", "-h", sockets, "-p", port]
    command += ["-U", str(login.get("username", OS_USER)), "-d", "postgres", "-c", SETTINGS]
    variables = {"PGPASSWORD": str(login.get("password") or ""), "PGCONNECT_TIMEOUT": "10"}
    code, output, errors = module.run_command(command, environ_update=variables, cwd="/")
    if code != 0:
        raise ValueError(f"PostgreSQL cannot be asked: {errors.strip()}")
    found: dict[str, Any] = json.loads(output)
    try:
        found["hba"] = lines(found.pop("hba_file"))
        found["ident"] = lines(found.pop("ident_file"))
    except OSError as error:
        raise ValueError(f"its access rules cannot be read: {error}") from error
    return found


def read_config(path: str) -> dict[str, Any]:
    """Return Patroni's configuration; raises ValueError when it cannot be read."""
    if yaml is None:
        raise ValueError("python3-yaml is missing on this host: apt-get install python3-yaml")
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no mapping")
    return content


def read_note(path: str) -> dict[str, Any]:
    """Return the note, an empty one when there is none."""
    try:
        found: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def read_running(module: AnsibleModule, facts: dict[str, Any], timeout_seconds: float) -> None:
    """Complete *facts* by what Patroni and its PostgreSQL answer; raises ValueError, HttpError."""
    address = facts["config"].get("restapi", {}).get("connect_address")
    scheme = "https" if facts["config"].get("restapi", {}).get("certfile") else "http"
    facts["postgres"] = postgres(module, facts["config"])
    if scheme == "http":
        url = f"http://{address}"
        facts["dynamic"] = request_json(f"{url}/config", None, timeout_seconds)
        facts["members"] = request_json(f"{url}/cluster", None, timeout_seconds)["members"]


def gather(module: AnsibleModule) -> dict[str, Any]:
    """Return the fact `patroni`."""
    note = read_note(module.params["note"])
    unit = module.params["unit"] or find_unit(module) or note.get("unit", "")
    active = bool(unit) and show(module, unit, "ActiveState") in ("active", "activating")
    facts: dict[str, Any] = {
        "unit": unit,
        "active": active,
        "replaced": show(module, PGHERD, "ActiveState") in ("active", "activating", "reloading"),
        "path": config_path(show(module, unit, "ExecStart")) if unit else "",
        "environment": environment(show(module, unit, "MainPID")) if active else [],
        "config": {},
        "dynamic": note.get("dynamic", {}),
        "members": [],
        "postgres": note.get("postgres", {}),
        "problems": [],
    }
    facts["path"] = facts["path"] or note.get("path", "")
    if not facts["path"]:
        facts["problems"] = ["no unit of Patroni that names a configuration file is known here"]
        return facts
    try:
        facts["config"] = read_config(facts["path"])
        if active:
            read_running(module, facts, module.params["timeout_seconds"])
    except HttpError as error:
        facts["problems"] = [f"Patroni's REST API: {error}"]
    except ValueError as error:
        facts["problems"] = [str(error)]
    return facts


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "default": ""},
            "note": {"type": "str", "default": "/etc/pgherd/adopted.json"},
            "timeout_seconds": {"type": "float", "default": 5},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, ansible_facts={"patroni": gather(module)})


if __name__ == "__main__":
    main()
