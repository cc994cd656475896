# SPDX-License-Identifier: GPL-3.0-or-later
"""The man page and the shell's completion: made of the commands, and good for their readers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.tests.command import Command, pgherd
from pgherd.cli import COMMANDS, SECTIONS
from pgherd.commands.manpage import escaped, page

__all__ = ["pgherd"]

SOURCE = Path(__file__).parents[1] / "src"


class TestManPage:
    def test_every_command_and_option_is_in_it(self, pgherd: Command) -> None:
        text = page()
        for section in SECTIONS:
            assert f".SH {section.upper()}\n" in text
        for name in COMMANDS:
            assert f".SS pgherd {escaped(name)} " in text
        assert escaped("--no-pending-restart") in text
        assert pgherd("man") == (0, text, "")

    def test_roff_takes_nothing_in_it_for_its_own(self) -> None:
        assert escaped(".TH x") == "\\&.TH x"
        assert escaped("'quoted'") == "\\&'quoted'"
        assert escaped("a\\b --c") == "a\\eb \\-\\-c"
        for line in page().splitlines():
            if line.startswith((".", "'")):
                assert line.split()[0] in (".TH", ".SH", ".SS", ".B", ".TP", ".PP")

    @pytest.mark.skipif(shutil.which("man") is None, reason="there is no man here")
    def test_man_reads_it_without_a_complaint(self, tmp_path: Path) -> None:
        file = tmp_path / "pgherd.1"
        file.write_text(page())
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"}
        done = subprocess.run(
            ["man", "--warnings", "-l", str(file)],
            capture_output=True, text=True, check=True, env=environment,
        )  # fmt: skip
        assert done.stderr == ""
        assert "EXIT CODES" in done.stdout


class TestCompletion:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_each_shell_has_its_script(self, pgherd: Command, shell: str) -> None:
        code, output, _ = pgherd("completion", shell)
        assert code == 0
        assert "_PGHERD_COMPLETE" in output

    def test_what_the_script_asks_for_is_answered(self) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(SOURCE),
            "_PGHERD_COMPLETE": "bash_complete",
            "COMP_WORDS": "pgherd swi",
            "COMP_CWORD": "1",
        }
        done = subprocess.run(
            [sys.executable, "-m", "pgherd"],
            capture_output=True, text=True, check=True, env=environment,
        )  # fmt: skip
        assert done.stdout == "plain,switchover\n"

    def test_a_shell_it_does_not_know_is_2(self, pgherd: Command) -> None:
        assert pgherd("completion", "tcsh")[0] == 2
