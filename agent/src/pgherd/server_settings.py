# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's parameters as the running server knows them: what they may be, what is in force."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from pgherd.errors import PostgresError
from pgherd.programs import SENSITIVE_PARAMETERS
from pgherd.units import amount, flag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgherd.postgres import Postgres

SETTINGS: Final = (
    "SELECT name, setting, unit, context, vartype, min_val, max_val, boot_val, enumvals "
    "FROM pg_settings"
)
# Old spellings the server takes, though it does not tell of them.
ALIASES: Final = {"wal_level": {"archive": "replica", "hot_standby": "replica"}}


@dataclass(frozen=True)
class ServerSetting:
    """One row of `pg_settings`.

    :param setting: the value in force, in *unit*.
    :param words: what an enum may be.
    """

    name: str
    setting: str | None = None
    unit: str = ""
    context: str = "user"
    vartype: str = "string"
    least: float | None = None
    most: float | None = None
    default: str | None = None
    words: tuple[str, ...] = ()

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> ServerSetting:
        """Read a row of `SETTINGS`."""
        return cls(
            name=row["name"],
            setting=row["setting"],
            unit=row["unit"] or "",
            context=row["context"],
            vartype=row["vartype"],
            least=amount(row["min_val"]),
            most=amount(row["max_val"]),
            default=row["boot_val"],
            words=tuple(row["enumvals"] or ()),
        )

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with *value*, None when the server would take it."""
        if self.context == "internal":
            return "cannot be set"
        if self.vartype == "bool":
            return None if flag(value) is not None else "must be on or off"
        if self.vartype == "enum":
            known = self.plain(value) in (*self.words, "true", "false")
            return None if known else f"must be one of {', '.join(self.words)}"
        if self.vartype in ("integer", "real"):
            return self._number_problem(value)
        return None

    def _number_problem(self, value: Any) -> str | None:
        number = amount(value, self.unit)
        unit = f" (unit {self.unit})" if self.unit else ""
        if number is None:
            return f"must be a number{unit}"
        number = round(number) if self.vartype == "integer" else number
        above = self.least is None or number >= self.least
        if above and (self.most is None or number <= self.most):
            return None
        return f"must be between {self.least:g} and {self.most:g}{unit}"

    def plain(self, value: Any) -> str | float | bool | None:
        """Return *value* so that equal ones compare as equal, however they are spelled."""
        if value is None:
            return None
        if self.vartype == "bool":
            return flag(value)
        if self.vartype in ("integer", "real"):
            number = amount(value, self.unit)
            return round(number) if number is not None and self.vartype == "integer" else number
        if self.vartype == "enum":
            word = str(value).lower()
            truth = flag(value)
            if word not in self.words and truth is not None:
                word = "on" if truth else "off"
            return ALIASES.get(self.name, {}).get(word, word)
        return str(value)


Known = dict[str, ServerSetting]


async def known_settings(postgres: Postgres) -> Known | None:
    """Return what the local server knows, by lower-case name; None when it does not answer."""
    try:
        rows = await postgres.query(SETTINGS)
    except PostgresError:
        return None
    return {row["name"].lower(): ServerSetting.from_row(row) for row in rows} or None


def check_parameters(parameters: Mapping[str, Any], known: Known) -> list[str]:
    """Return one sentence for every parameter that the server would not take.

    A name with a dot belongs to an extension that need not be loaded: it is taken as it is.
    """
    problems = []
    for name, value in parameters.items():
        setting = known.get(name.lower())
        path = f"postgresql.parameters.{name}"
        if setting is None and "." not in name:
            near = get_close_matches(name.lower(), known, 1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            problems.append(f"{path}: the server knows no such parameter{hint}")
        elif setting is not None and value is not None:
            problem = setting.problem(value)
            if problem:
                problems.append(f"{path}: {problem}, not {value!r}")
    return problems


def waiting(wanted: Mapping[str, Any], names: set[str], known: Known) -> dict[str, dict[str, str]]:
    """Return which of the parameters *names* need a restart to become what is *wanted*.

    :return: old and new value by name, as Patroni publishes them.
    """
    found = {}
    for name in sorted(names):
        setting = known.get(name.lower())
        if setting is None or setting.context != "postmaster":
            continue
        new = wanted.get(name)
        new = setting.default if new is None else new
        if setting.plain(new) != setting.plain(setting.setting):
            found[name] = {"old_value": str(setting.setting), "new_value": str(new)}
    return found


def restart_order(reasons: Mapping[str, Mapping[str, str]]) -> str:
    """Return who is restarted first for the pending *reasons*, one line for humans and programs.

    A standby must not have these parameters below its primary's: raised ones go to the standbys
    first, lowered ones to the primary first; of others the order does not matter.

    :return: ``any``, ``standbys first``, ``primary first``, or both with the names they are for.
    """
    raised: list[str] = []
    lowered: list[str] = []
    for name in sorted(reasons):
        old, new = (amount(reasons[name].get(key)) for key in ("old_value", "new_value"))
        if name not in SENSITIVE_PARAMETERS or old is None or new is None or old == new:
            continue
        (raised if new > old else lowered).append(name)
    if raised and lowered:
        return f"standbys first for {', '.join(raised)}; primary first for {', '.join(lowered)}"
    return "standbys first" if raised else "primary first" if lowered else "any"
