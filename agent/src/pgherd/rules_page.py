# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m pgherd.rules_page > docs/rules.md`: the decision table as a page for people.

The page is made from the rules themselves, so it cannot tell anything else than they do.
"""

from __future__ import annotations

import sys
from typing import Final

from pgherd.decide import SUBJECTS

INTRODUCTION: Final = """\
# The rules

<!-- Made from the source: python -m pgherd.rules_page > docs/rules.md. A test compares the two. -->

In every round the agent gathers one view of the world and takes the first rule of this table that
matches it. The order is part of the meaning: a rule may rely on every rule above it not having
matched. The last one matches everything.

The name of the rule is what you meet elsewhere: in the journal when it changes, in
`systemctl status pgherd`, under `pgherd.rule` in `GET /patroni`, in `pgherd list --verbose` and as
the label of the metric `pgherd_rule`. [Architecture](architecture.md) explains how a round goes.
"""


def page() -> str:
    """Return the whole page, Markdown."""
    parts = [INTRODUCTION]
    number = 0
    for subject, rules in SUBJECTS:
        parts.append(f"\n## {subject}\n\n| # | rule | why |\n| ---: | --- | --- |\n")
        for rule in rules:
            number += 1
            parts.append(f"| {number} | `{rule.name}` | {rule.why} |\n")
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
