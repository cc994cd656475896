# SPDX-License-Identifier: GPL-3.0-or-later
"""The write probe of a drill: what a client of the cluster sees, written down line by line.

    drill_probe.py run DIRECTORY    write through the entry until SIGTERM
    drill_probe.py wait DIRECTORY   wait until rows are acknowledged (again)
    drill_probe.py rows DIRECTORY   read back, through the entry, which rows there are

One thread writes through the cluster's entry. One for each member tries to write to it directly:
two members that acknowledge at one time are two primaries. One for each member asks its agent.
A line of `probe.jsonl` has a `t` in seconds of this host's monotonic clock.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from queue import Empty, SimpleQueue

import psycopg

STATEMENT_SECONDS = 1.0
SEEK_SECONDS = 0.1
SEEKERS_MAX = 10
WITNESS_SECONDS = 0.1
AGENT_SECONDS = 0.2
# Every SQLSTATE but these leaves open whether the row was committed: the server may have said it
# after the commit, and a pooler says it of a server that it has lost. A disk that is full (53100)
# refuses the row; where it is the commit that finds no room, PostgreSQL ends.
NOT_COMMITTED = frozenset({"25006", "57P03", "53100", "53300", "28P01", "3D000", "42501"})
# Who serves: behind a pooler on the server's own host inet_server_addr() is null.
INSERT = (
    "INSERT INTO {schema}.rows (run, writer, number) VALUES (%s, %s, %s) RETURNING "
    "coalesce(host(inet_server_addr()), '') || ',' || current_setting('listen_addresses'), "
    "pg_walfile_name(pg_current_wal_insert_lsn())"
)


class Journal:
    """The file of lines; safe to write to from every thread."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._lock = threading.Lock()

    def write(self, kind: str, **fields: object) -> None:
        """Write one line, of now unless a `t` is given."""
        line = json.dumps({"kind": kind, "t": time.monotonic(), **fields})
        with self._lock:
            if not self._file.closed:
                self._file.write(line + "\n")
                self._file.flush()

    def close(self) -> None:
        """Write the last line."""
        self.write("end")
        with self._lock:
            self._file.close()


class Session:
    """One connection whose statements end in time, whatever the other side does."""

    def __init__(self, config: dict, address: str) -> None:
        host, _colon, port = address.rpartition(":")
        self._connection = psycopg.connect(
            host=host.strip("[]"), port=int(port), dbname=config["database"], user=config["user"],
            password=config["password"], connect_timeout=2, autocommit=True,
            prepare_threshold=None, application_name="pgherd drill",
        )  # fmt: skip
        self._deadline = float("inf")
        self._notices: list[str] = []
        self._connection.add_notice_handler(lambda what: self._notices.append(what.message_primary))
        self._socket = socket.socket(fileno=os.dup(self._connection.fileno()))
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """Break the connection when a statement takes too long: only that wakes its thread."""
        while not self._over.wait(0.05):
            if time.monotonic() > self._deadline:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
                return

    def query(self, text: str, *values: object, seconds: float = STATEMENT_SECONDS) -> list:
        """Return the rows. Raises psycopg.Error; a wait for standbys that was ended counts."""
        self._notices.clear()
        self._deadline = time.monotonic() + seconds
        rows = self._connection.execute(text, values).fetchall()
        self._deadline = float("inf")
        if any("synchronous replication" in notice for notice in self._notices):
            raise psycopg.OperationalError(self._notices[-1])
        return rows

    def close(self) -> None:
        """Forget the connection."""
        self._over.set()
        self._socket.close()
        with suppress(psycopg.Error):
            self._connection.close()


class Probe:
    """All threads of one drill."""

    def __init__(self, directory: Path) -> None:
        self.config = json.loads((directory / "config.json").read_text())
        self.journal = Journal(directory / "probe.jsonl")
        self.insert = INSERT.format(schema=self.config["user"])
        self.over = threading.Event()

    def run(self) -> None:
        """Write until SIGTERM."""
        signal.signal(signal.SIGTERM, lambda *_: self.over.set())
        members = self.config["members"]
        self.journal.write(
            "start", wall=time.time(), run=self.config["run"], interval=self.config["interval"],
            entry=",".join(self.config["entry"]), members=sorted(members),
        )  # fmt: skip
        for name, member in members.items():
            for work in (self.witness, self.agent):
                threading.Thread(target=work, args=(name, member), daemon=True).start()
        self.entry()
        self.journal.close()

    def entry(self) -> None:
        """Write a row every interval through the cluster's entry."""
        session, number = None, 0
        while not self.over.is_set():
            session = session or self.seek()
            if session is None:
                return
            number += 1
            if not self.row(session, number):
                session.close()
                session = None
                continue
            self.over.wait(self.config["interval"])
        if session is not None:
            session.close()

    def row(self, session: Session, number: int) -> bool:
        """Write one row and what became of it; return whether the session is still good."""
        sent = time.monotonic()
        try:
            [(where, segment)] = session.query(self.insert, self.config["run"], "entry", number)
        except psycopg.Error as error:
            kind = "error" if error.sqlstate in NOT_COMMITTED else "doubt"
            self.journal.write(kind, sent=sent, number=number, error=words(error))
            return False
        self.journal.write(
            "ack",
            sent=sent,
            number=number,
            host=self.member_of(where),
            timeline=int(segment[:8], 16),
        )
        return True

    def member_of(self, where: str) -> str:
        """Return the member one of whose addresses is in *where*; else the addresses."""
        addresses = {part.strip() for part in where.split(",")}
        for name, member in self.config["members"].items():
            if member["host"] in addresses:
                return name
        return where.partition(",")[0]

    def seek(self) -> Session | None:
        """Return a session through the entry; None when the probe shall end.

        An attempt that hangs must not delay the next one: each has a thread of its own.
        """
        found: SimpleQueue[Session] = SimpleQueue()
        done = threading.Event()
        seekers: list[threading.Thread] = []
        turn = 0
        while not self.over.is_set():
            seekers = [seeker for seeker in seekers if seeker.is_alive()]
            if len(seekers) < SEEKERS_MAX:
                address = self.config["entry"][turn % len(self.config["entry"])]
                turn += 1
                seeker = threading.Thread(
                    target=self.attempt, args=(address, found, done), daemon=True
                )
                seeker.start()
                seekers.append(seeker)
            with suppress(Empty):
                session = found.get(timeout=SEEK_SECONDS)
                done.set()
                return session
        return None

    def attempt(self, address: str, found: SimpleQueue[Session], done: threading.Event) -> None:
        """Connect once; whoever comes second goes again."""
        try:
            session = Session(self.config, address)
        except psycopg.Error as error:
            if not done.is_set():
                self.journal.write("error", error=f"{address}: {words(error)}")
            return
        if done.is_set():
            session.close()
        else:
            found.put(session)

    def witness(self, name: str, member: dict) -> None:
        """Try to write to one member itself, whatever it says it is."""
        session, number = None, 0
        while not self.over.wait(WITNESS_SECONDS):
            sent = time.monotonic()
            try:
                session = session or Session(self.config, f"{member['host']}:{member['port']}")
                number += 1
                sent = time.monotonic()
                [(_written, segment)] = session.query(self.insert, self.config["run"], name, number)
            except psycopg.errors.ReadOnlySqlTransaction:
                continue
            except psycopg.Error:
                if session is not None:
                    session.close()
                session = None
                continue
            timeline = int(segment[:8], 16)
            self.journal.write("witness", member=name, sent=sent, number=number, timeline=timeline)

    def agent(self, name: str, member: dict) -> None:
        """Ask a member's agent, and write down what it says when that is new."""
        before: dict = {}
        while True:
            now = agent_says(member["agent"])
            if now != before:
                self.journal.write("state", member=name, **now)
                before = now
            if self.over.wait(AGENT_SECONDS):
                return


def agent_says(url: str) -> dict:
    """Return role, state, timeline and rule as the agent at *url* tells them."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=0.5) as answer:
            page = json.load(answer)
    except urllib.error.HTTPError as error:
        try:
            page = json.load(error)
        except ValueError:
            page = {}
    except (OSError, ValueError):
        page = {}
    role = {"master": "leader", "primary": "leader"}.get(page.get("role"), page.get("role"))
    return {
        "role": role or "silent", "state": page.get("state", "unknown"),
        "timeline": page.get("timeline"), "rule": page.get("pgherd", {}).get("rule", ""),
    }  # fmt: skip


def words(error: psycopg.Error) -> str:
    """Return the first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def lines_of(path: Path) -> list[dict]:
    """Return the lines that are whole."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return []
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def wait(directory: Path, after: float, rows: int, hold: float, timeout: float) -> float:
    """Return when rows came again after the longest wait since *after*, seconds of the epoch.

    Waits for *rows* acknowledged rows sent after it, not before *hold* seconds have passed, and
    only while rows come. Exits with an error after *timeout* seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        lines = lines_of(directory / "probe.jsonl")
        if lines:
            shift = lines[0]["wall"] - lines[0]["t"]
            begin = after - shift if after else lines[0]["t"]
            acks = [x["t"] for x in lines if x["kind"] == "ack" and x["sent"] > begin]
            now = time.monotonic()
            come = len(acks) >= rows and now - acks[-rows] < rows * 0.1 + 1
            if come and now > begin + hold:
                times = [begin, *acks]
                return max(pairwise(times), key=lambda two: two[1] - two[0])[1] + shift
        if time.monotonic() > deadline:
            errors = [x["error"] for x in lines if "error" in x]
            last = errors[-1] if errors else "no error was seen; does the probe run?"
            sys.exit(f"after {timeout:g} s there are not {rows} rows since the fault: {last}")
        time.sleep(0.05)


def ranges(numbers: list[int]) -> list[list[int]]:
    """Return sorted numbers as ranges [first, last]."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def read_back(directory: Path, timeout: float = 60) -> None:
    """Write which rows there are into `rows.json`, asked through the entry."""
    config = json.loads((directory / "config.json").read_text())
    query = f"SELECT writer, number FROM {config['user']}.rows WHERE run = %s ORDER BY 1, 2"
    deadline = time.monotonic() + timeout
    turn = 0
    while True:
        address = config["entry"][turn % len(config["entry"])]
        turn += 1
        try:
            rows = Session(config, address).query(query, config["run"], seconds=30)
            break
        except psycopg.Error as error:
            if time.monotonic() > deadline:
                sys.exit(f"the rows cannot be read back through {address}: {words(error)}")
            time.sleep(SEEK_SECONDS)
    found: dict[str, list[int]] = {"entry": []}
    for writer, number in rows:
        found.setdefault(writer, []).append(number)
    present = ranges(found.pop("entry"))
    witness = {name: ranges(numbers) for name, numbers in found.items()}
    (directory / "rows.json").write_text(json.dumps({"present": present, "witness": witness}))


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="The write probe of a pgherd drill.")
    parser.add_argument("verb", choices=["run", "wait", "rows"])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--after", type=float, default=0)
    parser.add_argument("--rows", type=int, default=50)
    parser.add_argument("--hold", type=float, default=0)
    parser.add_argument("--timeout", type=float, default=120)
    given = parser.parse_args()
    if given.verb == "run":
        Probe(given.directory).run()
    elif given.verb == "rows":
        read_back(given.directory)
    else:
        resumed = wait(given.directory, given.after, given.rows, given.hold, given.timeout)
        sys.stdout.write(json.dumps({"resumed": resumed}) + "\n")


if __name__ == "__main__":
    main()
