# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong, in sentences for the person who asked."""

from __future__ import annotations


class BackupError(Exception):
    """The text says what is wrong, with the value and the remedy."""


class RefusedError(BackupError):
    """What was asked for is not possible; nothing was touched."""


class ProgramError(BackupError):
    """A program ended with an error.

    :ivar code: its exit code.
    """

    def __init__(self, program: str, code: int, said: str) -> None:
        super().__init__(f"{program} ended with {code}: {said.strip() or 'nothing is said'}")
        self.code = code
