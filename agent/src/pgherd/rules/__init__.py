# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules, by subject; `pgherd.decide` puts them in order."""
