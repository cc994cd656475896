# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups with pgBackRest: taken by whoever shall, restored to a moment, and proven by restoring.

The role pgbackrest installs it as `/usr/local/bin/pgherd-backup` on hosts of PostgreSQL and on
repository hosts. It needs Python's standard library, pgBackRest and PostgreSQL's programs only.
"""
