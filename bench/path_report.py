# SPDX-License-Identifier: GPL-3.0-or-later
"""What a benchmark of the client's path found, as tables in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.page import row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.samples import Figure, Results

BASE: Final = "direct"
PEER: Final = "pgpool"
BY_HAND: Final = "hand"
OURS: Final = ("pgbouncer", "haproxy", "chain")
NONE: Final = "none"


def tables(results: Results, titles: Mapping[str, str]) -> str:
    """Return the tables of every script: shares of others, and the figures themselves.

    titles: what the paths are called.
    """
    parts = []
    for script in results.scripts:
        word = script.capitalize()
        kinds: list[tuple[str, Figure, str]] = [
            (BASE, "tps", f"{word}: tps, direct's is 1"),
            (BASE, "p99_ms", f"{word}: p99, direct's is 1"),
            (BASE, "cpu_us", f"{word}: processor time each, direct's is 1"),
            (BY_HAND, "tps", f"{word}: tps, the chain by hand is 1"),
            (PEER, "tps", f"{word}: tps, PgPool-II's is 1"),
        ]
        for base, figure, head in kinds:
            if base in results.paths:
                parts.append(_shares(results, titles, script, base, figure, head))
        parts.append(_absolute(results, titles, script))
    return "\n".join(parts)


def _shares(
    results: Results,
    titles: Mapping[str, str],
    script: str,
    base: str,
    figure: Figure,
    head: str,
) -> str:
    lines = _head(results, head)
    for path in results.paths:
        if path == base or (base != BASE and path not in OURS):
            continue
        cells = [results.share(path, base, script, n, figure) for n in results.clients]
        words = [NONE if cell is None else str(cell) for cell in cells]
        lines.append(row(titles[path], words))
    return "\n".join([*lines, ""])


def _absolute(results: Results, titles: Mapping[str, str], script: str) -> str:
    """Return medians as they were measured: they tell of the machine more than of the paths."""
    lines = _head(results, f"{script.capitalize()}: median tps / p99 ms / seconds to connect")
    for path in results.paths:
        words = []
        for clients in results.clients:
            tps, p99, connect = (
                results.median(path, script, clients, figure)
                for figure in ("tps", "p99_ms", "connect_seconds")
            )
            known = tps is not None and p99 is not None and connect is not None
            words.append(f"{tps:.0f} / {p99:.1f} / {connect:.1f}" if known else NONE)
        lines.append(row(titles[path], words))
    return "\n".join([*lines, ""])


def _head(results: Results, head: str) -> list[str]:
    words = [f"{clients} clients" for clients in results.clients]
    return [row(head, words), row("---", ["---"] * len(words))]


def verdicts(results: Results, titles: Mapping[str, str]) -> list[str]:
    """Return, a line each, how the ways of ours stand to a chain made by hand and to the peer."""
    lines = []
    for base in (BY_HAND, PEER):
        for script in results.scripts:
            for path in ("chain", "pgbouncer"):
                for clients in results.clients:
                    share = results.share(path, base, script, clients)
                    if share is not None:
                        lines.append(
                            f"{script}, {clients} clients, {titles[path]}: {share} times "
                            f"{titles[base]}"
                        )
    return lines
