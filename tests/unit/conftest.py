# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit tests of plugins run under ansible-test (`make unit`), or under pytest alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import coverage

if TYPE_CHECKING:
    import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
# A file for each process that runs tests.
DATA: Final = ROOT / "tests" / "output" / "plugins.coverage"
watched = coverage.Coverage(
    data_file=str(DATA), data_suffix=True, branch=True, source=[str(ROOT / "plugins")]
)
# The process that only hands tests out reaches nothing.
watched.set_option("run:disable_warnings", ["no-data-collected"])


def pytest_configure(config: pytest.Config) -> None:
    """Under ansible-test stop what tests start, do as pyproject.toml says, note what is reached.

    ansible-test runs each test in a fork, where what a fixture of a whole file starts is never
    stopped; it reads no settings but its own, and passes on nothing by the environment.
    """
    forked = config.pluginmanager.get_plugin("ansible_forked")
    if forked is not None:
        config.pluginmanager.unregister(forked)
        sys.path.insert(0, str(ROOT / "agent" / "src"))
        config.option.asyncio_mode = "auto"
        watched.start()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Write down what was reached."""
    watched.stop()
    watched.save()
