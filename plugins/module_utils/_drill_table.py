# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills as tables for a terminal, and the list of earlier ones. Private to the collection."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from ansible_collections.pgherd.cluster.plugins.module_utils._drill_judge import SHOWN, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

Result = dict[str, Any]
KEPT = ("rto_seconds", "rows_lost", "overlap_seconds", "client_errors", "redundancy_seconds",
        "leader_seconds", "rows_acknowledged", "rows_in_doubt")  # fmt: skip


def entry(result: Result) -> Result:
    """Return what the history keeps of a drill."""
    figures = {name: result["figures"][name] for name in KEPT}
    named = {name: result[name] for name in ("drill", "cluster", "target", "started", "passed")}
    return {**named, "figures": figures}


def remember(history: Sequence[Result], result: Result, keep: int) -> list[Result]:
    """Return *history* with *result*, the newest last, at most *keep* of its name and cluster.

    The same drill (by name, cluster and start) that is judged again replaces its entry.
    """
    new = entry(result)
    others = [x for x in history if not is_alike(x, new)]
    alike = [x for x in history if is_alike(x, new) and x["started"] != new["started"]]
    alike = sorted([*alike, new], key=lambda x: str(x["started"]))[-keep:]
    return sorted([*others, *alike], key=lambda x: (str(x["started"]), str(x["drill"])))


def is_alike(one: Result, other: Result) -> bool:
    """Return whether two drills have the same name and cluster."""
    return bool(one["drill"] == other["drill"] and one["cluster"] == other["cluster"])


def earlier(history: Sequence[Result], result: Result) -> list[Result]:
    """Return the drills alike *result* that began before it, the newest last."""
    return [
        x for x in history if is_alike(x, result) and str(x["started"]) < str(result["started"])
    ]


def usual(before: Sequence[Result], figure: str) -> float | None:
    """Return the median of a figure over earlier drills; None if none has it."""
    values = [x["figures"][figure] for x in before if x["figures"].get(figure) is not None]
    return median(values) if values else None


def figure_rows(result: Result, before: Sequence[Result]) -> list[list[str]]:
    """Return the cells of the table of figures: name, value, allowed, verdict, median before."""
    rows = []
    for check in result["checks"]:
        allowed, unit = check["allowed"], check["unit"]
        limited = allowed is not None
        rows.append(
            [
                check["label"],
                shown(check["value"], unit),
                shown(allowed, unit) if limited else "-",
                ("ok" if check["passed"] else "FAILED") if limited else "-",
                usually(before, check["figure"], unit),
            ]
        )
    for figure, label, unit in SHOWN:
        value = shown(result["figures"][figure], unit)
        rows.append([label, value, "-", "-", usually(before, figure, unit)])
    return rows


def usually(before: Sequence[Result], figure: str, unit: str) -> str:
    """Return the median of earlier drills for a table's cell."""
    value = usual(before, figure)
    return "-" if value is None else shown(value, unit)


def aligned(head: list[str], rows: Sequence[list[str]], right: frozenset[int]) -> list[str]:
    """Return lines of columns; those of the numbers in *right* are set to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows)]

    def line(cells: list[str]) -> str:
        return "  ".join(
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(cells, widths))
        ).rstrip()

    return [line(head), "  ".join("-" * width for width in widths), *map(line, rows)]


def table(result: Result, before: Sequence[Result]) -> list[str]:
    """Return the lines that a terminal shows for one drill."""
    head = ["figure", "value", "allowed", "verdict", f"median of {len(before)} before"]
    title = f"{result['drill']} of {result['target']} in {result['cluster']}, {result['started']}"
    lines = aligned(head, figure_rows(result, before), frozenset({1, 2, 4}))
    return [title, "", *lines, "", str(result["verdict"])]


SUMMARY_HEAD = ["drill", "target", "verdict", "no commit", "lost", "in doubt", "errors",
                "two primaries", "redundant"]  # fmt: skip


def summary_rows(results: Sequence[Result]) -> list[list[str]]:
    """Return a line of cells for each drill."""
    return [
        [
            str(result["drill"]),
            str(result["target"]),
            "ok" if result["passed"] else "FAILED",
            shown(result["figures"]["rto_seconds"], "s"),
            shown(result["figures"]["rows_lost"]),
            shown(result["figures"]["rows_in_doubt"]),
            shown(result["figures"]["client_errors"]),
            shown(result["figures"]["overlap_seconds"], "s"),
            shown(result["figures"]["redundancy_seconds"], "s"),
        ]
        for result in results
    ]


def summary(results: Sequence[Result]) -> list[str]:
    """Return the lines that a terminal shows for several drills."""
    failed = sum(not result["passed"] for result in results)
    lines = aligned(SUMMARY_HEAD, summary_rows(results), frozenset(range(3, 9)))
    return [*lines, "", f"{len(results) - failed} of {len(results)} drills passed."]
