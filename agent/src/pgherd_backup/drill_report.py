# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill's report as JSON, as a page, and as Prometheus text."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pgherd_backup.settings import Settings

# So many reports are kept.
KEPT: Final = 50
STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;
color:#1b1f24}
h1{font-size:1.5rem;margin-bottom:.2rem} .passed{color:#1a7f37} .failed{color:#b3261e}
table{border-collapse:collapse;width:100%;margin:1rem 0} td,th{text-align:left;padding:.4rem .6rem;
border-bottom:1px solid #d5dae0;vertical-align:top} td.n{text-align:right;white-space:nowrap}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem} dt{color:#57606a} dd{margin:0}
@media(prefers-color-scheme:dark){body{background:#14171a;color:#e4e8ec}td,th{border-color:#333a41}
dt{color:#9aa4ae}.passed{color:#4ac26b}.failed{color:#ff7b72}}
"""


def page(report: dict[str, Any]) -> str:
    """Return *report* as a page of HTML that needs nothing else."""
    verdict = report["verdict"]
    lost = report["lost_seconds"]
    facts = {
        "Backup": report["backup"] or "none",
        "Database": f"{report['size'] / 2**20:.0f} MiB",
        "Restored and recovered in": _seconds(report["restore_seconds"]),
        "Written and not restored": _seconds(lost),
        "Began": f"{report['started'][:19]} UTC",
        "Took": _seconds(report["seconds"]),
    }
    rows = "".join(
        f"<tr><td>{html.escape(check['name'])}</td>"
        f'<td class="{check["verdict"]}">{check["verdict"]}</td>'
        f'<td>{html.escape(check["text"])}</td><td class="n">{check["seconds"]:.1f} s</td></tr>'
        for check in report["checks"]
    )
    listed = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>"
        for name, value in facts.items()
    )
    name = html.escape(report["stanza"])
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Restore drill of {name}: {verdict}</title><style>{STYLE}</style>"
        f'<h1>Restore drill of {name}: <span class="{verdict}">{verdict}</span></h1>'
        f"<dl>{listed}</dl><table><tr><th>Check</th><th>Verdict</th><th>Found</th><th>Took</th></tr>"
        f"{rows}</table></html>\n"
    )


def _seconds(value: float | None) -> str:
    return "not known" if value is None else f"{value:.1f} s"


def metrics(report: dict[str, Any]) -> str:
    """Return *report* in the text format of Prometheus, for node_exporter's textfile collector."""
    label = f'{{cluster="{report["stanza"]}"}}'
    values = {
        "success": ("Whether the last restore drill passed.", int(report["verdict"] == "passed")),
        "timestamp_seconds": ("When it ended.", report["finished_at"]),
        "duration_seconds": ("How long it took.", report["seconds"]),
        "restore_seconds": ("Until the copy took connections.", report["restore_seconds"]),
        "lost_seconds": ("What was written last and would be lost.", report["lost_seconds"]),
        "database_bytes": ("Size of the restored database.", report["size"]),
    }
    lines = []
    for name, (meaning, value) in values.items():
        if value is not None:
            metric = f"pgherd_restore_drill_{name}"
            lines += [f"# HELP {metric} {meaning}", f"# TYPE {metric} gauge"]
            lines.append(f"{metric}{label} {value}")
    return "\n".join(lines) + "\n"


def write(settings: Settings, report: dict[str, Any]) -> dict[str, str]:
    """Write all three; return where the first two are."""
    directory = Path(settings.report_dir)
    stem = report["started"][:19].replace(" ", "T").replace(":", "").replace("-", "")
    text = json.dumps(report, indent=2) + "\n"
    _land(directory / f"{stem}.json", text)
    _land(directory / f"{stem}.html", page(report))
    _land(directory / "newest.json", text)
    if settings.metrics_file:
        _land(Path(settings.metrics_file), metrics(report))
    for suffix in ("json", "html"):
        for old in sorted(directory.glob(f"2*.{suffix}"))[:-KEPT]:
            old.unlink()
    return {"json": str(directory / f"{stem}.json"), "html": str(directory / f"{stem}.html")}


def _land(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(0o644)
    temporary.rename(path)
