# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator: the agent's real code in a world of virtual time, made from one seed.

Everything around the agent is simulated: clocks, network, etcd, PostgreSQL, clients and faults. A
seed makes one history of a cluster; the same seed makes the same history again.
"""
