# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a drill was passed. Private to the collection."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgherd.cluster.plugins.module_utils._drill_account import DrillError
from ansible_collections.pgherd.cluster.plugins.module_utils._nearest import did_you_mean

# Threshold: the figure that it bounds, its name for people, its unit, and its default.
THRESHOLDS: dict[str, tuple[str, str, str, float | None]] = {
    "rto_seconds_max": ("rto_seconds", "Without a commit", "s", None),
    "rows_lost_max": ("rows_lost", "Acknowledged rows lost", "", 0),
    "overlap_seconds_max": ("overlap_seconds", "Two primaries at once", "s", 0),
    "errors_max": ("client_errors", "Client errors", "", None),
    "redundancy_seconds_max": ("redundancy_seconds", "Until redundant again", "s", None),
}
# Figures without a threshold that tables show.
SHOWN: tuple[tuple[str, str, str], ...] = (
    ("leader_seconds", "Until a new leader", "s"),
    ("rows_acknowledged", "Rows acknowledged", ""),
    ("rows_in_doubt", "Rows in doubt", ""),
)


def settled(thresholds: dict[str, Any]) -> dict[str, float | None]:
    """Return all thresholds, the defaults for those not given. Raises DrillError."""
    limits = {name: default for name, (*_words, default) in THRESHOLDS.items()}
    for name, value in thresholds.items():
        if name not in limits:
            raise DrillError(
                f"thresholds: `{name}` is unknown{did_you_mean(name, limits)}; "
                f"there are {', '.join(limits)}"
            )
        try:
            limits[name] = None if value is None else float(value)
        except (TypeError, ValueError) as error:
            raise DrillError(
                f"thresholds: `{name}` is `{value}`; write a number, or null for no limit"
            ) from error
    return limits


def shown(value: float | None, unit: str = "") -> str:
    """Return a figure as people read it."""
    if value is None:
        return "not seen"
    text = f"{value:.2f}" if unit else f"{value:g}" if value % 1 else f"{int(value)}"
    return f"{text} {unit}".strip()


def judge(figures: dict[str, Any], thresholds: dict[str, Any]) -> dict[str, Any]:
    """Return `passed`, `verdict` (one sentence), `checks` and `thresholds` of an account.

    A check has figure, label, value, unit, allowed (None: no limit), passed and a sentence.
    Raises DrillError for thresholds that are unknown or no numbers.
    """
    limits = settled(thresholds)
    checks = []
    for name, (figure, label, unit, _default) in THRESHOLDS.items():
        value, allowed = figures[figure], limits[name]
        passed = allowed is None or (value is not None and value <= allowed)
        checks.append(
            {
                "figure": figure,
                "label": label,
                "value": value,
                "unit": unit,
                "allowed": allowed,
                "passed": passed,
                "sentence": sentence(label, value, unit, allowed),
            }
        )
    problems = [str(check["sentence"]) for check in checks if not check["passed"]]
    if not figures["resumed"]:
        problems.insert(0, "No row was acknowledged any more when the probe ended.")
    if not figures["fault_made"]:
        problems.insert(0, "The fault was not made, so these figures prove nothing.")
    return {
        "passed": not problems,
        "problems": problems,
        "verdict": verdict(figures, problems),
        "checks": checks,
        "thresholds": limits,
    }


def sentence(label: str, value: float | None, unit: str, allowed: float | None) -> str:
    """Return one check in words."""
    if allowed is None:
        return f"{label}: {shown(value, unit)}; no limit is set."
    if value is None:
        return f"{label}: not seen while the drill watched; {shown(allowed, unit)} is allowed."
    relation = "is more than" if value > allowed else "is within"
    return f"{label}: {shown(value, unit)} {relation} the {shown(allowed, unit)} allowed."


def verdict(figures: dict[str, Any], problems: list[str]) -> str:
    """Return the whole verdict in words."""
    if problems:
        return "Failed. " + " ".join(problems)
    lost = figures["rows_lost"]
    rows = "no acknowledged row was lost" if not lost else f"{lost} acknowledged rows were lost"
    before, after = figures["leader_before"], figures["leader_after"]
    moved = f"{before} leads still" if before == after else f"{after} leads instead of {before}"
    known = f"; {moved}" if before and after else ""
    gap = shown(figures["rto_seconds"], "s")
    return f"Passed. The longest wait for a commit was {gap} and {rows}{known}."
