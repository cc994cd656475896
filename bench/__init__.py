# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmarks: they print figures and fail on no absolute time."""
