# SPDX-License-Identifier: GPL-3.0-or-later
"""What PostgreSQL's log is quoted with when the server has ended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pgherd.pglog import last_words

if TYPE_CHECKING:
    from pathlib import Path


def log(directory: Path, *lines: str, name: str = "postgresql.log", age: int = 0) -> Path:
    """Write a log that was last written *age* seconds after the epoch; return its path."""
    path = directory / name
    path.write_text("".join(f"{line}\n" for line in lines))
    os.utime(path, (age, age))
    return path


@pytest.mark.parametrize("word", ["FATAL", "PANIC"])
def test_the_last_fatal_line_and_what_led_to_it_are_told(tmp_path: Path, word: str) -> None:
    said = ["LOG: one", "LOG: two", "LOG: three", f"{word}: no space", "LOG: shutting down"]
    assert last_words(log(tmp_path, *said)) == f"LOG: two | LOG: three | {word}: no space"


def test_of_two_ends_the_last_one_counts(tmp_path: Path) -> None:
    assert last_words(log(tmp_path, "FATAL: old", "LOG: x", "LOG: y", "FATAL: new")) == (
        "LOG: x | LOG: y | FATAL: new"
    )


def test_without_one_the_last_lines_are_told(tmp_path: Path) -> None:
    assert last_words(log(tmp_path, "a", "b", "c", "d")) == "b | c | d"
    assert last_words(log(tmp_path, "a")) == "a"


def test_the_file_written_last_is_read(tmp_path: Path) -> None:
    """The logging collector goes on in another file."""
    first = log(tmp_path, "LOG: redirecting log output to logging collector process", age=1)
    log(tmp_path, "FATAL: of the collector", name="postgresql-Mon.log", age=2)
    assert last_words(first) == "FATAL: of the collector"


def test_an_empty_log_says_so(tmp_path: Path) -> None:
    assert last_words(log(tmp_path)) == "it left no message"


def test_bytes_that_are_no_text_do_not_hide_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "postgresql.log"
    path.write_bytes(b"FATAL: \xff\xfe\n")
    assert last_words(path).startswith("FATAL: ")


def test_a_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert str(tmp_path) in last_words(tmp_path / "postgresql.log")
