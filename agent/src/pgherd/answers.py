# SPDX-License-Identifier: GPL-3.0-or-later
"""What handlers of the REST API give back, and how they are entered in its table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgherd.loop import Loop


@dataclass(frozen=True)
class Answer:
    """One answer.

    :param body: text is sent as text/html, as Patroni does; anything else as JSON.
    """

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[["Loop", Mapping[str, Any]], Awaitable[Answer]]


@dataclass(frozen=True)
class Unsafe:
    """A method that changes something.

    :param handler: gets the loop and the request's JSON object.
    :param needs_body: whether that object must be there and not be empty.
    """

    handler: Handler
    needs_body: bool = False
