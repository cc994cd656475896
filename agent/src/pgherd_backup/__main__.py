# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the command line: `python -m pgherd_backup`."""

from __future__ import annotations

import sys

from pgherd_backup.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
