# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of `pgherd`, one file to a subject; each is imported when it is run."""
