#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Judge a failover drill and write its report."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_report
short_description: Judge a failover drill and write its report
description:
  - Reads what the write probe and the playbook C(failover_drill) left of a drill, and computes
    what the drill cost.
  - Writes C(result.json) and C(report.html), one page that needs nothing else, beside these files.
  - Keeps C(history.json) with earlier drills, to compare with.
  - With O(summary), sums up several drills that were judged, in C(index.html).
  - Runs on the controller.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
options:
  directory:
    description:
      - Directory of one drill, with C(probe.jsonl), C(events.json), C(rows.json) and C(meta.json).
      - Needed unless O(summary) is given.
    type: path
  given:
    description:
      - What C(events), C(rows) and C(meta) hold, instead of their files, which are written then.
    type: dict
    default: {}
  summary:
    description: Directories of drills that were judged, to sum up.
    type: list
    elements: path
  thresholds:
    description:
      - What a drill may cost, laid on the C(thresholds) of C(meta.json); V(null) sets no limit.
      - C(rows_lost_max) and C(overlap_seconds_max) are 0 if nothing else is said.
      - C(rto_seconds_max), C(errors_max) and C(redundancy_seconds_max) have no limit if nothing is
        said.
    type: dict
    default: {}
  history_directory:
    description:
      - Where C(history.json) is kept, and C(index.html) of a summary is written.
      - By default the directory that O(directory), or the first of O(summary), is in.
    type: path
  history_keep:
    description: How many drills of one name and cluster the history keeps.
    type: int
    default: 50
attributes:
  check_mode:
    description: Judges and says whether files would change, but writes nothing.
    support: full
  diff_mode:
    description: Shows the result before and after.
    support: full
"""

EXAMPLES = r"""
- name: Judge the drill
  pgherd.cluster.drill_report:
    directory: drills/main/20260101T120000Z-host_stop
    thresholds:
      rto_seconds_max: 7
  delegate_to: localhost
  register: drill

- name: Show what it cost
  pgherd.cluster.say:
    text: "{{ drill.table | join('\n') }}"

- name: Sum up two drills
  pgherd.cluster.drill_report:
    summary:
      - drills/main/20260101T120000Z-host_stop
      - drills/main/20260101T121000Z-switchover
  delegate_to: localhost
"""

RETURN = r"""
result:
  description:
    - What C(result.json) holds; C(figures) has what was measured, C(checks) each one's verdict.
  returned: with O(directory)
  type: dict
table:
  description: Lines for a terminal.
  returned: success
  type: list
  elements: str
passed:
  description: Whether every threshold was kept, in all drills of a summary.
  returned: success
  type: bool
paths:
  description: The files, by C(result), C(report) and C(history), or C(index) of a summary.
  returned: success
  type: dict
"""

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._drill_account import (
    Drill,
    DrillError,
    account,
    read_lines,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._drill_judge import judge
from ansible_collections.pgherd.cluster.plugins.module_utils._drill_page import index, report
from ansible_collections.pgherd.cluster.plugins.module_utils._drill_table import (
    earlier,
    remember,
    summary,
    table,
)


def load(path: Path) -> Any:
    """Return what a JSON file holds. Raises DrillError that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DrillError(f"{path} cannot be read: {error}") from error


def load_drill(directory: Path, given: dict[str, Any]) -> Drill:
    """Return the drill of a directory, what is *given* not read there. Raises DrillError."""
    probe = directory / "probe.jsonl"
    try:
        lines = read_lines(probe.read_text(encoding="utf-8"))
    except OSError as error:
        raise DrillError(f"{probe} cannot be read: {error}") from error
    names = ("events", "rows", "meta")
    events, rows, meta = (given.get(name) or load(directory / f"{name}.json") for name in names)
    absent = [name for name in ("drill", "cluster", "started") if name not in meta]
    if absent:
        raise DrillError(f"{directory / 'meta.json'} lacks {', '.join(absent)}")
    return Drill(lines, events, rows, meta)


def result_of(drill: Drill, thresholds: dict[str, Any]) -> dict[str, Any]:
    """Return the whole result of *drill* under the thresholds. Raises DrillError."""
    figures = account(drill)
    limits = {**drill.meta.get("thresholds", {}), **thresholds}
    named = {name: str(drill.meta[name]) for name in ("drill", "cluster", "started")}
    target = drill.meta.get("target") or "no member"
    target = ", ".join(map(str, target)) if isinstance(target, list) else str(target)
    return {**named, "target": target, **judge(figures, limits), "figures": figures}


def dumped(value: Any) -> str:
    """Return JSON as the files have it."""
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def one(
    directory: Path,
    kept: Path,
    thresholds: dict[str, Any],
    keep: int,
    given: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, Path], dict[Path, str]]:
    """Return a drill's answer, its paths, and the contents of the files. Raises DrillError."""
    if keep < 1:
        raise DrillError(f"history_keep is {keep}; it must be at least 1")
    drill = load_drill(directory, given)
    result = result_of(drill, thresholds)
    history_path = kept / "history.json"
    history = load(history_path) if history_path.exists() else []
    before = earlier(history, result)
    answer = {"result": result, "table": table(result, before), "passed": result["passed"]}
    paths = {
        "result": directory / "result.json",
        "report": directory / "report.html",
        "history": history_path,
    }
    files = {
        paths["result"]: dumped(result),
        paths["report"]: report(drill, result, before),
        history_path: dumped(remember(history, result, keep)),
        **{directory / f"{name}.json": dumped(value) for name, value in given.items()},
    }
    return answer, paths, files


def several(
    directories: list[Path], kept: Path
) -> tuple[dict[str, Any], dict[str, Path], dict[Path, str]]:
    """Return the answer for drills that were judged, as `one` does. Raises DrillError."""
    results = [load(directory / "result.json") for directory in directories]
    passed = all(result["passed"] for result in results)
    paths = {"index": kept / "index.html"}
    return {"table": summary(results), "passed": passed}, paths, {paths["index"]: index(results)}


def write(files: dict[Path, str], *, changes: bool) -> dict[str, dict[str, str]]:
    """Write the files that differ, if *changes*; return each one's text before and after."""
    changed = {}
    for path, text in files.items():
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if old != text:
            changed[str(path)] = {"before": old, "after": text}
            if changes:
                path.parent.mkdir(parents=True, exist_ok=True)
                # Whole or not at all: the history must outlive an interrupted run.
                fresh = path.with_name(path.name + ".new")
                fresh.write_text(text, encoding="utf-8")
                fresh.replace(path)
    return changed


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path"},
            "given": {"type": "dict", "default": {}},
            "summary": {"type": "list", "elements": "path"},
            "thresholds": {"type": "dict", "default": {}},
            "history_directory": {"type": "path"},
            "history_keep": {"type": "int", "default": 50},
        },
        mutually_exclusive=[("directory", "summary")],
        required_one_of=[("directory", "summary")],
        supports_check_mode=True,
    )
    params = module.params
    several_of = [Path(path) for path in params["summary"] or []]
    if not several_of and not params["directory"]:
        module.fail_json(msg="summary is empty; name the directory of at least one drill")
    first = several_of[0] if several_of else Path(params["directory"])
    kept = Path(params["history_directory"] or first.resolve().parent)
    try:
        if several_of:
            answer, paths, files = several(several_of, kept)
        else:
            words = [params[name] for name in ("thresholds", "history_keep", "given")]
            answer, paths, files = one(first, kept, *words)
    except DrillError as error:
        module.fail_json(msg=str(error))
    changed = write(files, changes=not module.check_mode)
    diff = [
        {"before_header": path, "after_header": path, **texts}
        for path, texts in changed.items()
        if path.endswith(".json")
    ]
    module.exit_json(
        changed=bool(changed),
        diff=diff,
        paths={name: str(path) for name, path in paths.items()},
        **answer,
    )


if __name__ == "__main__":
    main()
