# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong with the lab, in sentences that end with the remedy."""


class LabError(Exception):
    """The lab cannot do what was asked; the message says why and what to do."""
