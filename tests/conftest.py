# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests import the collection's plugins by their full names."""

from __future__ import annotations

from lab.collection import make_importable

make_importable()
