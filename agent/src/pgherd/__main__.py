# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point of the zipapp and of ``python -m pgherd``."""

import sys


def main() -> None:
    """Run the command line; the daemons by a way that spares them the libraries of the others."""
    match sys.argv[1:]:
        case ["agent", "--config", path]:
            from pathlib import Path

            from pgherd.early import renew

            # Before the agent's libraries are loaded, which takes longer than this.
            renew(Path(path))
            from pgherd.start import main as run_agent

            sys.exit(run_agent(Path(path)))
        case ["guard", "--config", path]:
            from pathlib import Path

            from pgherd.guard_process import main as run_guard

            sys.exit(run_guard(Path(path)))
        case _:
            try:
                from pgherd.cli import main as run_command
            except ModuleNotFoundError as error:
                # Anywhere but on a host of a cluster, which has all of them.
                sys.exit(
                    f"pgherd: this needs the Python module {error.name}: "
                    f"apt install python3-{error.name}"
                )
            run_command()


if __name__ == "__main__":
    main()
