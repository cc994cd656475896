# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a drill as one page that needs nothing else. Private to the collection."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

from ansible_collections.pgherd.cluster.plugins.module_utils._drill_chart import bars, chart
from ansible_collections.pgherd.cluster.plugins.module_utils._drill_judge import shown
from ansible_collections.pgherd.cluster.plugins.module_utils._drill_table import (
    SUMMARY_HEAD,
    figure_rows,
    summary_rows,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ansible_collections.pgherd.cluster.plugins.module_utils._drill_account import Drill, Line

NUMBERS = 200  # of rows that are written out
STYLE = """
:root{color-scheme:light dark;--ink:#1c2733;--soft:#5d6b7a;--rule:#d9dfe6;--bg:#fff;
--ok:#1f7a4d;--bad:#b8322a}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--soft:#a3b0bd;--rule:#35414d;--bg:#151b21;
--ok:#5cc48f;--bad:#f0786c}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--bg);max-width:1000px;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}.soft{color:var(--soft)}
.verdict{border-left:5px solid;padding:.5rem 1rem;margin:1rem 0;font-size:1.1rem}
.ok{color:var(--ok)}.bad{color:var(--bad)}.verdict span{color:var(--ink)}
table{border-collapse:collapse}th,td{text-align:left;padding:.25rem 1.2rem .25rem 0;
border-bottom:1px solid var(--rule);font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}.wide>svg{min-width:640px;width:100%}pre{white-space:pre-wrap}
""".strip()


def page(title: str, body: str) -> str:
    """Return a whole page."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>{body}</body></html>\n"
    )


def grid(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table; what failed stands out."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = "".join("<tr>" + "".join(map(cell_of, row)) + "</tr>\n" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>\n{lines}</table></div>'


def cell_of(text: str) -> str:
    """Return one cell."""
    how = {"ok": ' class="ok"', "FAILED": ' class="bad"'}.get(text, "")
    return f"<td{how}>{escape(text)}</td>"


def verdict_of(result: Line) -> str:
    """Return the verdict as it stands on top."""
    how = "ok" if result["passed"] else "bad"
    return f'<p class="verdict {how}"><span>{escape(result["verdict"])}</span></p>'


def comparison(result: Line, before: Sequence[Line]) -> str:
    """Return earlier drills of the same kind beside this one."""
    if not before:
        return '<p class="soft">This is the first drill of its kind.</p>'
    both = [*before, result]
    seconds = [(str(x["started"]), float(x["figures"]["rto_seconds"])) for x in both]
    head = ["started", "target", "verdict", "no commit", "lost", "errors", "redundant"]
    rows = [
        [
            str(x["started"]),
            str(x["target"]),
            "ok" if x["passed"] else "FAILED",
            shown(x["figures"]["rto_seconds"], "s"),
            shown(x["figures"]["rows_lost"]),
            shown(x["figures"]["client_errors"]),
            shown(x["figures"]["redundancy_seconds"], "s"),
        ]
        for x in reversed(both)
    ]
    picture: str = bars(seconds[-40:], result["thresholds"]["rto_seconds_max"])
    return picture + grid(head, rows)


def numbers(found: Sequence[int]) -> str:
    """Return rows' numbers, not more than a person reads."""
    more = f" and {len(found) - NUMBERS} more" if len(found) > NUMBERS else ""
    return ", ".join(map(str, found[:NUMBERS])) + more


def details(figures: Line) -> str:
    """Return latencies, rules, and the rows that were lost or in doubt."""
    parts = ["<h2>Latency of commits</h2>"]
    spans = (("before the fault", "latency_before"), ("after the gap", "latency_after"))
    parts.append(
        grid(
            ["", "p50", "p95", "p99", "max"],
            [
                [name, *(f"{(figures[key] or {}).get(p, float('nan')):.1f} ms"
                         if figures[key] else "not seen" for p in ("p50", "p95", "p99", "max"))]
                for name, key in spans
            ],
        )
    )  # fmt: skip
    parts.append("<h2>Rules that fired</h2>")
    rules = [[f"{x['seconds']:.2f} s", x["member"], x["rule"]] for x in figures["rules"]]
    none = '<p class="soft">None was seen.</p>'
    parts.append(grid(["after the fault", "member", "rule"], rules) if rules else none)
    parts.append("<h2>Rows lost and in doubt</h2>")
    lost = [[f"lost, acknowledged by {name}", numbers(x)] for name, x in figures["lost"].items()]
    there = figures["rows_in_doubt_present"]
    doubt = [[f"in doubt ({there} are there)", numbers(figures["in_doubt"])]]
    rows = lost + (doubt if figures["in_doubt"] else [])
    parts.append(grid(["what", "numbers"], rows) if rows else '<p class="soft">No row.</p>')
    return "".join(parts)


def report(drill: Drill, result: Line, before: Sequence[Line]) -> str:
    """Return the report of *drill* as a page."""
    title = f"Drill {result['drill']} of {result['cluster']}"
    head = ["figure", "value", "allowed", "verdict", f"median of {len(before)} before"]
    events = [
        [f"{drill.probe_time(x['wall']) - drill.zero:.2f} s", str(x["name"]),
         str(x.get("target") or ""), str(x.get("text") or "")]
        for x in sorted(drill.events, key=lambda x: float(x["wall"]))
    ]  # fmt: skip
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(result["target"])}, {escape(result["started"])}</p>',
        verdict_of(result),
        "<h2>Timeline</h2>",
        f'<div class="wide">{chart(drill, result["figures"])}</div>',
        "<h2>Figures</h2>",
        grid(head, figure_rows(result, before)),
        "<h2>Earlier drills</h2>",
        comparison(result, before),
        "<h2>Events</h2>",
        grid(["after the fault", "event", "target", "what"], events),
        details(result["figures"]),
        "<h2>Settings</h2>",
        f"<pre>{escape(settings(drill.meta))}</pre>",
    ]
    return page(title, "\n".join(parts))


def settings(meta: dict[str, Any]) -> str:
    """Return what a drill ran with, as people read it."""
    kept = {name: meta[name] for name in ("profile", "settings", "versions") if meta.get(name)}
    return json.dumps(kept, indent=2, sort_keys=True, default=str)


def index(results: Sequence[Line]) -> str:
    """Return one page for several drills."""
    failed = [result for result in results if not result["passed"]]
    text = f"{len(results) - len(failed)} of {len(results)} drills passed."
    how = "bad" if failed else "ok"
    why = "".join(f"<p><b>{escape(x['drill'])}</b>: {escape(x['verdict'])}</p>\n" for x in failed)
    return page(
        "Drills",
        f'<h1>Drills</h1><p class="verdict {how}"><span>{text}</span></p>'
        + grid(SUMMARY_HEAD, summary_rows(results))
        + why,
    )
