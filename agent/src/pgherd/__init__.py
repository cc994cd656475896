# SPDX-License-Identifier: GPL-3.0-or-later
"""pgherd: a high-availability agent for PostgreSQL, wire-compatible with Patroni."""

__version__ = "0.1.0"

# The Patroni release whose REST API, metrics and etcd layout this agent speaks. Tools made for
# Patroni parse this as three integers, so our own version travels under a key of its own.
PATRONI_VERSION = "4.1.5"
