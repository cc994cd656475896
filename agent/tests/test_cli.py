# SPDX-License-Identifier: GPL-3.0-or-later
"""The `pgherd` command: exit codes, and one sentence for everything that went wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from agent.tests.builders import raw_config
from agent.tests.command import Command, Host, agent, host, pgherd, write
from agent.tests.etcd_processes import free_ports
from pgherd import PATRONI_VERSION, __version__
from pgherd.cli import COMMANDS, cli

__all__ = ["agent", "host", "pgherd"]


def test_the_version_names_the_patroni_release_it_speaks(pgherd: Command) -> None:
    code, output, _ = pgherd("version")
    assert (code, output) == (0, f"pgherd {__version__} (speaks Patroni {PATRONI_VERSION})\n")


@pytest.mark.parametrize("arguments", [["nonsense"], ["list", "--nonsense"]])
def test_a_wrong_command_line_is_2(pgherd: Command, arguments: list[str]) -> None:
    assert pgherd(*arguments)[0] == 2


class TestCheckConfig:
    def test_a_good_file_is_0_and_silent(self, pgherd: Command, tmp_path: Path) -> None:
        path = write(tmp_path, raw_config(tmp_path))
        assert pgherd("check-config", "--config", path) == (0, "", "")

    def test_what_the_file_lacks_its_fragments_may_add(
        self, pgherd: Command, tmp_path: Path
    ) -> None:
        raw = raw_config(tmp_path)
        fragment = {"postgresql": raw.pop("postgresql")}
        path = write(tmp_path, raw)
        assert pgherd("check-config", "-c", path)[0] == 1
        (tmp_path / "conf.d").mkdir()
        (tmp_path / "conf.d/50-postgresql.yml").write_text(yaml.safe_dump(fragment))
        assert pgherd("check-config", "-c", path) == (0, "", "")

    def test_a_fragment_alone_is_fine_when_it_is_called_one(
        self, pgherd: Command, tmp_path: Path
    ) -> None:
        path = write(tmp_path, {"postgresql": raw_config(tmp_path)["postgresql"]})
        assert pgherd("check-config", "--partial", "-c", path) == (0, "", "")
        code, _, problems = pgherd("check-config", "-c", path)
        assert code == 1
        assert "pgherd: scope: is missing\n" in problems

    def test_every_problem_is_a_line_of_its_own(self, pgherd: Command, tmp_path: Path) -> None:
        path = write(tmp_path, raw_config(tmp_path, scope="a b", tags=3))
        code, output, problems = pgherd("check-config", "-c", path)
        assert (code, output) == (1, "")
        assert [line.split(": ")[:2] for line in problems.splitlines()] == [
            ["pgherd", "scope"],
            ["pgherd", "tags"],
        ]

    def test_certificates_that_cannot_be_used_are_named(
        self, pgherd: Command, tmp_path: Path
    ) -> None:
        """The next agent could not serve with them."""
        raw = raw_config(tmp_path, ctl={"cacert": "/none"})
        raw["restapi"]["certfile"] = "/none"
        code, _, problems = pgherd("check-config", "-c", write(tmp_path, raw))
        assert code == 1
        sections = [line.split(": ")[1] for line in problems.splitlines()]
        assert sections == ["restapi", "ctl"]

    def test_a_missing_file_is_1_and_named(self, pgherd: Command, tmp_path: Path) -> None:
        code, _, problems = pgherd("check-config", "-c", str(tmp_path / "none.yml"))
        assert code == 1
        assert f"{tmp_path}/none.yml: cannot be read" in problems
        assert len(problems.splitlines()) == 1


class TestAgent:
    def test_a_bad_configuration_is_78_and_names_the_key(
        self, pgherd: Command, tmp_path: Path
    ) -> None:
        """So systemd does not start it again: a human has to change something."""
        path = write(tmp_path, raw_config(tmp_path, scope=""))
        code, _, problems = pgherd("agent", "--config", path)
        assert code == 78
        assert problems.startswith("pgherd: scope: must be a name: ")
        assert len(problems.splitlines()) == 1

    def test_both_ways_to_start_it_are_one(self, pgherd: Command, tmp_path: Path) -> None:
        path = write(tmp_path, {})
        assert pgherd("agent", "-c", path) == pgherd("agent", "--config", path)


def test_a_list_nobody_can_give_is_3_and_one_sentence(pgherd: Command, tmp_path: Path) -> None:
    port, etcd = free_ports(2)
    rest = {"listen": f"127.0.0.1:{port}", "connect_address": f"127.0.0.1:{port}"}
    raw = raw_config(tmp_path, restapi=rest, etcd3={"hosts": [f"127.0.0.1:{etcd}"]})
    code, output, problems = pgherd("list", "-c", write(tmp_path, raw))
    assert (code, output) == (3, "")
    assert problems.startswith("pgherd: neither the agent on this host nor etcd answers")
    assert len(problems.splitlines()) == 1


class TestHelp:
    def test_the_line_of_every_command_is_what_the_command_says_itself(self) -> None:
        """The help is printed without importing the commands."""
        context = click.Context(cli)
        for name, entry in COMMANDS.items():
            command = cli.get_command(context, name)
            assert command is not None
            assert command.name == name
            first = (command.help or "").split("\n\n")[0].replace("\n", " ").strip()
            assert first.startswith(entry.help.rstrip(".")), name

    def test_it_is_one_line_for_each(self, pgherd: Command, monkeypatch: Any) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        code, output, _ = pgherd("--help")
        assert code == 0
        for name, entry in COMMANDS.items():
            assert f"  {name.ljust(15)}  {entry.help}\n" in output

    def test_a_command_that_is_nearly_right_is_named(self, pgherd: Command) -> None:
        code, _, problems = pgherd("listt")
        assert code == 2
        assert "Did you mean 'list'?" in problems


def test_the_version_may_be_asked_for_as_of_other_programs(pgherd: Command) -> None:
    assert pgherd("--version") == (0, f"pgherd {__version__}\n", "")


def test_a_module_that_is_not_installed_is_named(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that the role has not prepared."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    code, _, problems = host("query", "-c", "SELECT 1")
    assert code == 1
    assert problems == "pgherd: this needs the Python module psycopg: apt install python3-psycopg\n"


WITHOUT_CLICK = """
import sys
sys.modules["click"] = None
from pgherd.__main__ import main
main()
"""


def test_not_even_click_needs_to_be_there_for_a_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CLICK], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "pgherd: this needs the Python module click: apt install python3-click\n"


def test_another_clusters_name_is_2(pgherd: Command, tmp_path: Path) -> None:
    path = write(tmp_path, raw_config(tmp_path))
    code, _, problems = pgherd("list", "other", "-c", path)
    assert code == 2
    assert "belongs to cluster 'demo'; 'other' is another name" in problems


def test_every_command_speaks_json() -> None:
    context = click.Context(cli)
    silent = {
        name
        for name in COMMANDS
        if not any("--json" in each.opts for each in _command(context, name).params)
    }
    assert silent == {"agent", "guard"}


def _command(context: click.Context, name: str) -> click.Command:
    command = cli.get_command(context, name)
    assert command is not None
    return command


HEAVY = ("aiohttp", "asyncio", "rich", "psycopg", "prometheus_client", "pgherd.etcd")
LIST = """
import sys
sys.argv = ["pgherd", "list", "--config", sys.argv[1]]
from pgherd.__main__ import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print([name for name in {heavy} if name in sys.modules])
"""


def test_the_list_loads_nothing_that_takes_long(host: Host) -> None:
    """It is to answer in 0.3 s; each of these takes a good part of that."""
    done = subprocess.run(
        [sys.executable, "-c", LIST.format(heavy=HEAVY), host.path],
        capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")},
    )  # fmt: skip
    assert "pg3" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
