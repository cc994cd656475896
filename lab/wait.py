# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to wait for something: look again and again, but not for ever."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_SECONDS: Final = 0.1

T = TypeVar("T")


def until(
    look: Callable[[], T],
    within: float,
    what: str,
    *,
    holds: Callable[[T], object] = bool,
    tell: Callable[[T], str] = repr,
    every: float = EVERY_SECONDS,
    passing: tuple[type[Exception], ...] = (),
) -> T:
    """Look until what is found is as it must be, and return it.

    within, every: seconds for all of it, and from one look to the next.
    what: what is waited for, in words. holds: tells whether it is so; by default, whether what was
    found is true. tell: puts what was found in words. passing: errors of a look that may pass.

    Raises LabError, with what was waited for and what was seen last, when that does not come.
    """
    deadline = time.monotonic() + within
    while True:
        try:
            found = look()
        except passing as error:
            seen = f"{type(error).__name__}: {error}"
        else:
            if holds(found):
                return found
            seen = tell(found)
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not so in {within:g} s. Last seen: {seen}")
        time.sleep(every)
