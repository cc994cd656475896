# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m lab`: the lab from the command line."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

from lab import disks, faults, processes
from lab.errors import LabError
from lab.hosts import Lab
from lab.progress import Progress
from lab.settings import HOST_NAMES, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

EPILOG: Final = (
    "The environment says the same: PGHERD_LAB_NAME, PGHERD_LAB_SUBNET, PGHERD_LAB_RELEASE; "
    "PGHERD_LAB_DATA_DISK=1 gives new hosts a small disk for PostgreSQL's files."
)

BY_HOST: Final = {
    "heal": faults.heal,
    "fill": disks.fill,
    "empty": disks.empty,
    "break": disks.make_read_only,
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    root = argparse.ArgumentParser(prog="python -m lab", description=__doc__, epilog=EPILOG)
    root.add_argument("--name", help="prefix of the containers, name of the network (pgherd)")
    root.add_argument("--subnet", help="a private /24 for the hosts (10.87.13.0/24)")
    root.add_argument("--release", help="Debian release of the hosts: 13 (default) or 12")
    root.add_argument("--quiet", action="store_true", help="print errors only")
    verbs = root.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text in (
        ("image", "make the hosts' image"),
        ("up", "make what is missing, start what is stopped"),
        ("down", "remove the hosts, their data and the network"),
        ("status", "show the hosts"),
    ):
        verbs.add_parser(verb, help=text)
    for verb, text in (
        ("kill", "take hosts away at once, as a power cut does"),
        ("stop", "shut hosts down in good order"),
        ("start", "switch hosts on, at their old addresses"),
        ("pause", "freeze hosts"),
        ("unpause", "let frozen hosts go on"),
        ("heal", "undo the cuts of hosts"),
        ("fill", "fill the data disks of hosts (PGHERD_LAB_DATA_DISK=1 gives them one)"),
        ("empty", "make room on data disks again"),
        ("break", "make data disks read-only, until the hosts are killed and started"),
    ):
        _add_hosts(verbs.add_parser(verb, help=text))
    cut = verbs.add_parser("cut", help="cut hosts off the network, silently")
    _add_hosts(cut)
    scope = cut.add_mutually_exclusive_group()
    scope.add_argument("--peers", action="store_true", help="from the lab's other hosts only")
    scope.add_argument("--etcd", action="store_true", help="from etcd only")
    cut.add_argument("--way", choices=("in", "out", "both"), default="both", help="one direction")
    send = verbs.add_parser("signal", help="send a signal to a process of a host")
    send.add_argument("host", choices=HOST_NAMES)
    send.add_argument("process", choices=(processes.POSTMASTER, *processes.UNITS))
    send.add_argument("word", choices=("STOP", "CONT", "KILL", "TERM"))
    run = verbs.add_parser("exec", help="run a command in a host")
    run.add_argument("host", choices=HOST_NAMES)
    run.add_argument("command", nargs=argparse.REMAINDER, help="the command and its arguments")
    return root


def _add_hosts(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("hosts", nargs="+", choices=HOST_NAMES, metavar="HOST")


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line asks; return the exit code. Raises LabError when it cannot."""
    settings = Settings.from_environment(arguments.name, arguments.subnet, arguments.release)
    lab = Lab(settings, Progress(quiet=arguments.quiet))
    match arguments.verb:
        case "image":
            lab.build_image()
        case "up":
            lab.up()
        case "down":
            lab.down()
        case "status":
            for host in lab.status():
                sys.stdout.write(
                    f"{host.name:<6} {host.address:<15} {host.container:<16} "
                    f"{host.state:<8} {host.system}\n"
                )
        case "exec":
            code, output = lab.exec(arguments.host, arguments.command, check=False)
            sys.stdout.write(output)
            return code
        case "cut":
            peers = HOST_NAMES if arguments.peers else ()
            how = faults.Cut(peers, etcd=arguments.etcd or None, way=arguments.way)
            for host in arguments.hosts:
                faults.cut(lab, host, how)
        case "signal":
            processes.signal(lab, arguments.host, arguments.process, arguments.word)
        case "heal" | "fill" | "empty" | "break" as verb:
            for host in arguments.hosts:
                BY_HOST[verb](lab, host)
        case verb:
            for host in arguments.hosts:
                getattr(lab, verb)(host)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0, 2 when the lab cannot do what is asked, or the exit code of `exec`'s command."""
    try:
        return run(parser().parse_args(argv))
    except LabError as error:
        sys.stderr.write(f"lab: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
