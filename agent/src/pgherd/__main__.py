# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point of the zipapp and of ``python -m pgherd``."""

from pgherd.cli import main

if __name__ == "__main__":
    main()
