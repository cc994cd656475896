# SPDX-License-Identifier: GPL-3.0-or-later
"""Amounts and booleans, as PostgreSQL reads them."""

from __future__ import annotations

from typing import Any

import pytest

from pgherd.units import amount, flag


class TestAmounts:
    @pytest.mark.parametrize(
        ("value", "unit", "number"),
        [
            (7, "", 7),
            (1.5, "s", 1.5),
            ("7", "", 7),
            (" 7 ", "s", 7),
            ("-1", "B", -1),
            ("0x10", "", 16),
            ("1e3", "", 1000),
            ("1MB", "B", 1 << 20),
            ("128MB", "8kB", 16384),
            ("1.5GB", "MB", 1536),
            ("1 TB", "kB", 1 << 30),
            ("30min", "s", 1800),
            ("250ms", "s", 0.25),
            ("2d", "min", 2880),
            ("100us", "ms", 0.1),
        ],
    )
    def test_a_number_may_have_a_unit(self, value: Any, unit: str, number: float) -> None:
        assert amount(value, unit) == pytest.approx(number)

    @pytest.mark.parametrize(
        ("value", "unit"),
        [
            (True, "s"),
            (None, "s"),
            ([1], ""),
            ("", ""),
            ("many", ""),
            ("1mb", "B"),
            ("1MB", "s"),
            ("1s", "kB"),
            ("1s", ""),
            ("1..5", ""),
            ("0x", ""),
            (float("nan"), ""),
            (float("inf"), ""),
            ("1e999", ""),
        ],
    )
    def test_what_is_no_amount_is_none(self, value: Any, unit: str) -> None:
        assert amount(value, unit) is None


class TestFlags:
    @pytest.mark.parametrize("value", [True, "on", "ON", "true", "t", "yes", "y", "1", 1])
    def test_true(self, value: Any) -> None:
        assert flag(value) is True

    @pytest.mark.parametrize("value", [False, "off", "of", "False", "f", "no", "n", "0", 0])
    def test_false(self, value: Any) -> None:
        assert flag(value) is False

    @pytest.mark.parametrize("value", ["", "o", "maybe", "2", None, [], "onn"])
    def test_neither(self, value: Any) -> None:
        assert flag(value) is None
