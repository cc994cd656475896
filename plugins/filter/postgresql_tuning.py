# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL parameters from the hardware and the cluster's timings."""

from __future__ import annotations

DOCUMENTATION = r"""
name: postgresql_tuning
short_description: PostgreSQL parameters from hardware and timings
description:
  - Returns parameters computed from memory, cores and the cluster's timings.
  - The formulas stand with the functions that compute them.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
positional: cores, timings
options:
  _input:
    description: Memory in bytes.
    type: int
    required: true
  cores:
    description: Cores of this host.
    type: int
    required: true
  timings:
    description: What P(pgherd.cluster.rto_timings#filter) returned.
    type: dict
    required: true
  max_connections:
    description: Connections that memory is shared out to.
    type: int
    default: 200
  huge_pages:
    description: The parameter of that name.
    type: str
    default: try
"""

EXAMPLES = r"""
- name: Show what four gigabytes and two cores get
  ansible.builtin.debug:
    msg: "{{ 4294967296 | pgherd.cluster.postgresql_tuning(2, timings) }}"
  vars:
    timings: "{{ 'normal' | pgherd.cluster.rto_timings }}"
"""

RETURN = r"""
_value:
  description: Parameters by name.
  type: dict
"""

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1024**2
GIB = 1024**3
LEAST_MEMORY = 256 * MIB


def _clamp(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def _megabytes(size: int) -> str:
    return f"{size // MIB}MB"


def memory_parameters(memory: int, max_connections: int) -> dict[str, str]:
    """Return the parameters that share out *memory* bytes.

    shared_buffers        1/4, 32 MB to 32 GB. The manual (19.4): a quarter is a reasonable start,
                          more than 40 % is unlikely to work better; beyond 32 GB the scan of the
                          buffers costs more than they bring.
    effective_cache_size  3/4: shared buffers and what the kernel caches; an estimate, not an
                          allocation.
    maintenance_work_mem  1/16, 64 MB to 2 GB: every autovacuum worker may take it (pgtune).
    work_mem              (memory - shared_buffers) / (3 * max_connections), 4 MB to 256 MB: three
                          sorts or hashes a connection fit beside the buffers (pgtune).
    """
    buffers = _clamp(memory // 4, 32 * MIB, 32 * GIB)
    return {
        "shared_buffers": _megabytes(buffers),
        "effective_cache_size": _megabytes(memory * 3 // 4),
        "maintenance_work_mem": _megabytes(_clamp(memory // 16, 64 * MIB, 2 * GIB)),
        "work_mem": _megabytes(
            _clamp((memory - buffers) // (3 * max_connections), 4 * MIB, 256 * MIB)
        ),
    }


def core_parameters(cores: int) -> dict[str, int]:
    """Return the parameters that share out *cores*.

    max_worker_processes must not be smaller on a standby than on its primary, so it is the same
    on a small host and on a large one: 8 for extensions and logical replication, and 56 parallel
    workers. An unused place costs a few kilobytes.
    One query gets half of the cores, four at most (the manual, 15.1: more seldom pays).
    autovacuum gets a worker for every four cores, 3 (PostgreSQL's own default) to 8.
    """
    half = _clamp(cores // 2, 0, 4)
    return {
        "max_worker_processes": 64,
        "max_parallel_workers": min(cores, 56),
        "max_parallel_workers_per_gather": half,
        "max_parallel_maintenance_workers": half,
        "autovacuum_max_workers": _clamp(cores // 4, 3, 8),
    }


def timing_parameters(timings: dict[str, float]) -> dict[str, str]:
    """Return the parameters that decide how soon a lost peer is noticed.

    A host that is gone sends nothing, not even a reset: every connection needs a limit of its own.
    wal_retrieve_retry_interval is how long a standby waits before it tries the new primary again;
    PostgreSQL's 5 s would be the longest part of a failover. A tenth of the receiver's timeout
    (0.2 to 2 s) is short beside the lease and costs a connection attempt.
    """
    user_ms = int(timings["tcp_user_timeout_ms"])
    receiver_ms = int(timings["wal_receiver_timeout_ms"])
    idle_seconds = max(1, user_ms // 1000)
    return {
        "wal_receiver_timeout": f"{receiver_ms}ms",
        "wal_sender_timeout": f"{int(timings['wal_sender_timeout_ms'])}ms",
        "wal_receiver_status_interval": "1s",
        "wal_retrieve_retry_interval": f"{_clamp(receiver_ms // 10, 200, 2000)}ms",
        "tcp_user_timeout": f"{user_ms}ms",
        "tcp_keepalives_idle": f"{idle_seconds}s",
        "tcp_keepalives_interval": f"{max(1, idle_seconds // 3)}s",
        "tcp_keepalives_count": "3",
    }


# What does not depend on the host: solid-state disks, checkpoints that are spread, a log that
# explains a slow or failed night, and the statistics monitoring needs.
CONSTANT: dict[str, Any] = {
    "checkpoint_timeout": "15min",
    "max_wal_size": "4GB",
    "min_wal_size": "1GB",
    "wal_compression": "lz4",
    "random_page_cost": 1.1,
    "effective_io_concurrency": 200,
    "password_encryption": "scram-sha-256",
    "track_io_timing": True,
    "log_autovacuum_min_duration": "1min",
    "log_checkpoints": True,
    "log_line_prefix": "%m [%p] %q%u@%d %a ",
    "log_lock_waits": True,
    "log_min_duration_statement": "2s",
    "log_temp_files": "64MB",
}


def postgresql_tuning(
    memory_bytes: int,
    cores: int,
    timings: dict[str, float],
    max_connections: int = 200,
    huge_pages: str = "try",
) -> dict[str, Any]:
    """Return PostgreSQL's parameters for a host of *memory_bytes* and *cores* of its own.

    Raises AnsibleFilterError when the host is too small or a number makes no sense.
    """
    if memory_bytes < LEAST_MEMORY:
        raise AnsibleFilterError(
            f"PostgreSQL gets {memory_bytes // MIB} MB of memory; it needs "
            f"{LEAST_MEMORY // MIB} MB (postgresql_memory_mb, or a larger host)"
        )
    if cores < 1 or max_connections < 1:
        raise AnsibleFilterError(
            f"cores ({cores}) and max_connections ({max_connections}) must be at least 1"
        )
    return {
        "max_connections": max_connections,
        **memory_parameters(memory_bytes, max_connections),
        **core_parameters(cores),
        **timing_parameters(timings),
        **CONSTANT,
        "huge_pages": huge_pages,
    }


def huge_page_count(parameters: dict[str, Any], page_bytes: int = 2 * MIB) -> int:
    """Return how many huge pages hold the shared memory of *parameters*.

    Shared memory is shared_buffers and about a tenth more for locks, WAL buffers and the like,
    and 64 MB beside. Raises AnsibleFilterError when shared_buffers is not in kB, MB, GB or TB.
    """
    text = str(parameters.get("shared_buffers", "128MB")).strip()  # PostgreSQL's own default
    units = {"kB": 1024, "MB": MIB, "GB": GIB, "TB": 1024 * GIB}
    number, unit = text[:-2].strip(), text[-2:]
    if unit not in units or not number.isdigit():
        raise AnsibleFilterError(
            f"shared_buffers: {text!r} is not a whole number of kB, MB, GB or TB"
        )
    wanted = int(number) * units[unit] * 11 // 10 + 64 * MIB
    return -(-wanted // page_bytes)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            "postgresql_tuning": postgresql_tuning,
            "postgresql_timing": timing_parameters,
            "huge_page_count": huge_page_count,
        }
