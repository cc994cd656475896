# SPDX-License-Identifier: GPL-3.0-or-later
"""Defragment one etcd member, when all others are healthy, and never while it leads.

Compaction frees pages inside the file; only defragmentation gives them back, and while it runs
the member answers nobody. So a leader hands over first, and nothing is done for little gain.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
from typing import Any

SECONDS = 3.0
DEFRAGMENT_SECONDS = 300.0


class Stop(Exception):
    """There is a reason not to defragment now; the text says it."""


def call(url: str, path: str, body: dict[str, Any], seconds: float = SECONDS) -> dict[str, Any]:
    """Return what the member at *url* answers; raises OSError."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def waste(status: dict[str, Any]) -> int:
    """Return the bytes that defragmentation would give back."""
    return int(status.get("dbSize", 0)) - int(status.get("dbSizeInUse", 0))


def healthy_others(url: str, own_id: str) -> list[str]:
    """Return the ids of all other voters; raises Stop when one of them does not answer."""
    voters = []
    for member in call(url, "/v3/cluster/member/list", {}).get("members", []):
        if member["ID"] == own_id:
            continue
        try:
            status = call(member["clientURLs"][0], "/v3/maintenance/status", {})
        except (OSError, KeyError) as error:
            raise Stop(
                f"member {member.get('name') or member['ID']} is not healthy: {error}"
            ) from error
        if not status.get("isLearner"):
            voters.append(member["ID"])
    return voters


def defragment(url: str, least_bytes: int) -> str:
    """Defragment the member at *url* and return what was gained; raises Stop, OSError."""
    status = call(url, "/v3/maintenance/status", {})
    if waste(status) < least_bytes:
        raise Stop(f"{waste(status) // 2**20} MB to gain, less than {least_bytes // 2**20} MB")
    own_id = status["header"]["member_id"]
    others = healthy_others(url, own_id)
    if others and status.get("leader") == own_id:
        call(url, "/v3/maintenance/transfer-leadership", {"targetID": others[0]})
        if call(url, "/v3/maintenance/status", {}).get("leader") == own_id:
            raise Stop("this member leads and could not hand over")
    call(url, "/v3/maintenance/defragment", {}, DEFRAGMENT_SECONDS)
    after = call(url, "/v3/maintenance/status", {})
    return f"{int(status['dbSize']) // 2**20} MB before, {int(after['dbSize']) // 2**20} MB after"


def main() -> int:
    """Run the program and return its exit status: 0 also when there was a reason to wait."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", help="client URL of this host's member")
    parser.add_argument("--least-mb", type=int, default=64, help="gain worth the pause (64)")
    arguments = parser.parse_args()
    try:
        message = defragment(arguments.url, arguments.least_mb * 2**20)
    except Stop as reason:
        message = f"not now: {reason}"
    except OSError as error:
        sys.stderr.write(f"etcd at {arguments.url}: {error}\n")
        return 1
    sys.stdout.write(message + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
