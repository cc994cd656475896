# SPDX-License-Identifier: GPL-3.0-or-later
"""What a benchmark of the client's path found, as tables in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.samples import number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.samples import Figure, Results

BASE: Final = "direct"
PEER: Final = "pgpool"
BEGIN: Final = "<!-- figures: written by python -m bench.path -->"
END: Final = "<!-- end of the figures -->"
# What a chain put together by hand had at 32 clients, as shares of direct, in a lab like ours.
BY_HAND: Final = {
    ("reads", "haproxy"): 0.57,
    ("reads", "pgbouncer"): 0.70,
    ("reads", "chain"): 0.54,
    ("reads", "pgpool"): 0.37,
    ("writes", "haproxy"): 0.71,
    ("writes", "pgbouncer"): 0.81,
    ("writes", "chain"): 0.60,
    ("writes", "pgpool"): 0.54,
}
BY_HAND_CLIENTS: Final = 32
NONE: Final = "none"


def tables(results: Results, titles: Mapping[str, str]) -> str:
    """Return the tables of every script: shares of direct, of the peer, and direct's own figures.

    titles: what the paths are called.
    """
    parts = []
    for script in results.scripts:
        word = script.capitalize()
        kinds: list[tuple[str, Figure, str]] = [
            (BASE, "tps", f"{word}: tps, direct's is 1"),
            (BASE, "p99_ms", f"{word}: p99, direct's is 1"),
            (BASE, "cpu_us", f"{word}: processor time each, direct's is 1"),
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
        if path == base or (base == PEER and path == BASE):
            continue
        cells = [results.share(path, base, script, n, figure) for n in results.clients]
        words = [NONE if cell is None else str(cell) for cell in cells]
        lines.append(_row(titles[path], words))
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
        lines.append(_row(titles[path], words))
    return "\n".join([*lines, ""])


def _head(results: Results, head: str) -> list[str]:
    words = [f"{clients} clients" for clients in results.clients]
    return [_row(head, words), _row("---", ["---"] * len(words))]


def _row(head: str, cells: list[str]) -> str:
    return f"| {' | '.join([head, *cells])} |"


def verdicts(results: Results, titles: Mapping[str, str]) -> list[str]:
    """Return, a line each, how the shares of direct stand to those of a chain made by hand.

    And to the peer, and how the pooled paths do with the most clients.
    """
    lines = []
    for (script, path), by_hand in BY_HAND.items():
        share = results.share(path, BASE, script, BY_HAND_CLIENTS)
        if share is not None:
            lines.append(
                f"{script}, {BY_HAND_CLIENTS} clients, {titles[path]}: {share} of direct "
                f"(by hand {by_hand:.2f})"
            )
    for script in results.scripts:
        for path in ("chain", "pgbouncer"):
            for clients in results.clients:
                share = results.share(path, PEER, script, clients)
                if share is not None:
                    lines.append(
                        f"{script}, {clients} clients, {titles[path]}: {number(share.median)} "
                        "times PgPool-II"
                    )
    return lines


def replaced(text: str, figures: str) -> str:
    """Return *text*, a document, with *figures* between its two marks.

    Raises ValueError when it has no such marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document has no {BEGIN} followed by {END}")
    return f"{before}{BEGIN}\n\n{figures}\n{END}{after}"
