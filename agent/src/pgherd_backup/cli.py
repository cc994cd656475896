# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `pgherd-backup`. What it finds goes to standard output, how far it is to the other.

Exit codes: 0 done; 1 failed; 2 wrong command line; 3 refused, nothing was touched.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pgherd_backup import (
    drill,
    drill_report,
    flush,
    programs,
    replica,
    report_info,
    restore,
    run,
    stanza,
)
from pgherd_backup import scratch as scratches
from pgherd_backup.errors import BackupError, RefusedError
from pgherd_backup.settings import SETTINGS, Settings, load
from pgherd_backup.target import TYPES, Target, check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DONE: Final = 0
FAILED: Final = 1
REFUSED: Final = 3
LOCK: Final = Path("/run/pgherd-backup/lock")


def _target(arguments: argparse.Namespace) -> Target:
    target = Target(
        arguments.type, arguments.target, arguments.set, arguments.timeline, arguments.exclusive
    )
    check(target)
    return target


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _show(found: dict[str, Any], arguments: argparse.Namespace) -> None:
    if arguments.json:
        _say(json.dumps(found))
        return
    width = max(map(len, found), default=0)
    for name, value in found.items():
        _say(f"{name.replace('_', ' ').ljust(width)}  {value}")


def _info(settings: Settings, arguments: argparse.Namespace) -> int:
    told = report_info.describe(settings)
    _say(json.dumps(told) if arguments.json else report_info.table(told))
    return DONE


def _run(settings: Settings, arguments: argparse.Namespace) -> int:
    taken = run.take(settings, arguments.kind, if_leader=arguments.if_leader)
    if arguments.json:
        _show(taken, arguments)
    elif not taken["acted"]:
        _say(f"it is the turn of {taken['leader'] or 'nobody'}: nothing was done")
    for each in [] if arguments.json else taken["backups"]:
        _say(f"{each['label']} ({each['type']}) in repository {each['repository']}")
    return DONE


def _stanza(settings: Settings, arguments: argparse.Namespace) -> int:
    _show(stanza.ensure(settings, arguments.within), arguments)
    return DONE


def _canary(settings: Settings, _arguments: argparse.Namespace) -> int:
    flush.write_canary(settings)
    return DONE


def _flush(settings: Settings, arguments: argparse.Namespace) -> int:
    _show({"archived": flush.flush(settings, arguments.within)}, arguments)
    return DONE


def _plan(settings: Settings, arguments: argparse.Namespace) -> int:
    target, number = _target(arguments), arguments.repo
    if arguments.beside:
        found = scratches.plan_beside(settings, arguments.beside, target, number)
    else:
        found = restore.plan_in_place(settings, target, number, keep_old=arguments.keep_old)
    _show(found.as_dict(), arguments)
    return DONE


def _place(settings: Settings, arguments: argparse.Namespace) -> int:
    _show(restore.place(settings), arguments)
    return DONE


def _restore(settings: Settings, arguments: argparse.Namespace) -> int:
    target = _target(arguments)
    with _alone():
        done = restore.in_place(settings, target, arguments.repo, keep_old=arguments.keep_old)
    _show(done, arguments)
    return DONE


def _give_way(settings: Settings, arguments: argparse.Namespace) -> int:
    _show({"moved": restore.give_way(settings)}, arguments)
    return DONE


def _forget(settings: Settings, arguments: argparse.Namespace) -> int:
    _show({"removed": restore.forget_kept(settings)}, arguments)
    return DONE


def _replica(settings: Settings, arguments: argparse.Namespace) -> int:
    replica.make_replica(settings, Path(arguments.datadir))
    return DONE


def _bootstrap(settings: Settings, arguments: argparse.Namespace) -> int:
    replica.begin_cluster(
        settings,
        Path(arguments.datadir),
        config=Path(arguments.source_config),
        stanza=arguments.source_stanza,
        target=_target(arguments),
    )
    return DONE


def _scratch(settings: Settings, arguments: argparse.Namespace) -> int:
    if arguments.action == "serve":
        scratches.serve(settings, arguments.name)
    elif arguments.action == "drop":
        _show({"dropped": scratches.drop(settings, arguments.name)}, arguments)
    else:
        made = scratches.create(settings, arguments.name, _target(arguments), arguments.repo)
        _show(made, arguments)
    return DONE


def _drill(settings: Settings, arguments: argparse.Namespace) -> int:
    with _alone():
        report = drill.drill(settings, fresh_seconds=arguments.fresh_seconds, number=arguments.repo)
    places = drill_report.write(settings, report)
    bad = [check["name"] for check in report["checks"] if check["verdict"] != drill.PASSED]
    named = f" ({', '.join(bad)})" if bad else ""
    programs.tell(f"restore drill: {report['verdict']}{named}; the report is {places['html']}")
    if arguments.json:
        _show({**report, "files": places}, arguments)
    return DONE if report["verdict"] == drill.PASSED else FAILED


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep a second one of us from the same directory; a killed one lets go by itself."""
    with LOCK.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError("another restore or drill is under way on this host") from None
        yield


def _with_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--type", default="latest", choices=TYPES)
    parser.add_argument("--target", default="")
    parser.add_argument("--set", default="", help="the label of the backup to begin with")
    parser.add_argument("--timeline", default="latest")
    parser.add_argument("--exclusive", action="store_true")
    parser.add_argument("--repo", type=int, default=0, help="0: the first where it is possible")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pgherd-backup", description=__doc__)
    parser.add_argument("--settings", type=Path, default=SETTINGS)
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, work: Callable[..., int], meaning: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=meaning, description=meaning)
        command.add_argument("--json", action="store_true")
        command.set_defaults(work=work)
        return command

    add("info", _info, "Show what the repositories hold.")
    taken = add("run", _run, "Take a backup now.")
    taken.add_argument("--kind", default="diff", choices=("full", "diff", "incr"))
    taken.add_argument("--if-leader", action="store_true", help="only where it is its turn")
    made = add("stanza", _stanza, "Have the repositories know the cluster.")
    made.add_argument("--within", type=float, default=120)
    add("canary", _canary, "Write a row of proof, where the primary is.")
    flushed = add("flush", _flush, "Have all that was written archived.")
    flushed.add_argument("--within", type=float, default=60)
    planned = add("plan", _plan, "Show what a restore would do.")
    planned.add_argument("--beside", default="", metavar="NAME")
    add("place", _place, "Show what an earlier restore left on this host.")
    restored = add("restore", _restore, "Restore in the place of this host's data.")
    for each in (planned, restored):
        each.add_argument("--keep-old", action=argparse.BooleanOptionalAction, default=True)
        _with_target(each)
    add("give-way", _give_way, "Put this host's data where a new copy takes them over.")
    add("forget", _forget, "Remove what an earlier restore has replaced.")
    copied = add("replica", _replica, "Fill a data directory (the agent's replica method).")
    begun = add("bootstrap", _bootstrap, "Begin with another cluster's backup.")
    for each in (copied, begun):
        each.add_argument("--datadir", required=True)
        each.add_argument("--scope")
        each.add_argument("--role")
        each.add_argument("--connstring")
    begun.add_argument("--source-config", default="/etc/pgbackrest/clone.conf")
    begun.add_argument("--source-stanza", required=True)
    _with_target(begun)
    scratch = add("scratch", _scratch, "A copy beside the cluster.")
    scratch.add_argument("action", choices=("create", "serve", "drop"))
    scratch.add_argument("name")
    _with_target(scratch)
    drilled = add("drill", _drill, "Restore the newest backup and examine it.")
    drilled.add_argument("--fresh-seconds", type=float, default=900)
    drilled.add_argument("--repo", type=int, default=0)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = _parser().parse_args(words)
    try:
        programs.become_owner()
        work: Callable[[Settings, argparse.Namespace], int] = arguments.work
        return work(load(arguments.settings), arguments)
    except RefusedError as error:
        sys.stderr.write(f"pgherd-backup: refused: {error}\n")
        return REFUSED
    except BackupError as error:
        sys.stderr.write(f"pgherd-backup: {error}\n")
        return FAILED
    except KeyboardInterrupt:
        return 130
