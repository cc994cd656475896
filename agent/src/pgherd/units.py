# SPDX-License-Identifier: GPL-3.0-or-later
"""Amounts as PostgreSQL and Patroni write them: a number, perhaps with a unit of memory or time."""

from __future__ import annotations

import math
import re
from typing import Any, Final

# Spelled exactly so (PostgreSQL documentation 20.1.1); by family, in bytes and in seconds.
FAMILIES: Final = (
    {"B": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4},
    {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400},
)
_AMOUNT: Final = re.compile(
    r"\s*([+-]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))\s*([a-zA-Z]*)\s*"
)
_BASE: Final = re.compile(r"(\d*)([a-zA-Z]+)")


def amount(value: Any, unit: str = "") -> float | None:
    """Return *value* in *unit*; None when it is no number, or has a unit of another family.

    :param unit: that of a number without one, such as ``s``, ``kB`` or ``8kB``; empty for none.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        # JSON as Python reads it knows NaN and infinity.
        return float(value) if math.isfinite(value) else None
    match = _AMOUNT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    digits, given = match.groups()
    number = float(int(digits, 16)) if "x" in digits.lower() else float(digits)
    if not math.isfinite(number):
        return None
    if not given:
        return number
    base = _BASE.fullmatch(unit)
    for family in FAMILIES:
        if base is not None and base[2] in family and given in family:
            return number * family[given] / (int(base[1] or 1) * family[base[2]])
    return None


def flag(value: Any) -> bool | None:
    """Return *value* as PostgreSQL reads a boolean, None when it is none (20.1.1)."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    for words, meaning in (
        (("on", "true", "yes", "1"), True),
        (("off", "false", "no", "0"), False),
    ):
        for whole in words:
            # Unique beginnings will do: `o` alone could be either.
            if word and whole.startswith(word) and word != "o":
                return meaning
    return None
