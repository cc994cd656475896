# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill breaks, and how that is undone: lines for a shell. Private to the collection."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.pgherd.cluster.plugins.module_utils._nearest import did_you_mean

CHAIN = "PGHERD_DRILL"
BALLAST = "/run/pgherd-drill-ballast"
AGENT = 'kill -{} "$(systemctl show --property=MainPID --value pgherd.service)"'
CUT = f"""
for tables in iptables ip6tables; do
  command -v $tables >/dev/null || continue
  $tables -w -N {CHAIN}
  for port in $DRILL_PORTS; do
    $tables -w -A {CHAIN} -p tcp --dport "$port" -j RETURN
    $tables -w -A {CHAIN} -p tcp --sport "$port" -j RETURN
  done
  $tables -w -A {CHAIN} -j DROP
  $tables -w -I INPUT ! -i lo -j {CHAIN}
  $tables -w -I OUTPUT ! -o lo -j {CHAIN}
done
"""
HEAL = f"""
for tables in iptables ip6tables; do
  command -v $tables >/dev/null || continue
  $tables -w -S {CHAIN} >/dev/null 2>&1 || continue
  while $tables -w -D INPUT ! -i lo -j {CHAIN} 2>/dev/null; do :; done
  while $tables -w -D OUTPUT ! -o lo -j {CHAIN} 2>/dev/null; do :; done
  $tables -w -F {CHAIN} && $tables -w -X {CHAIN}
done
"""
# Only a file system of PostgreSQL's own: a full root hurts what no drill is about.
FILL = f"""
server=$(pgrep -o -u postgres -x postgres) || {{ echo "PostgreSQL does not run" >&2; exit 1; }}
data=$(tr '\\0' '\\n' <"/proc/$server/cmdline" | sed -n '/^-D$/{{n;p;q}}')
mount=$(stat -c %m "$data")
if [ "$mount" = / ]; then
  echo "$data is on the root file system, which no drill fills; give it one of its own" >&2
  exit 1
fi
echo "$mount/pgherd-drill-ballast" >{BALLAST}
free() {{ df --output=avail -B1 "$mount" | tail -n 1; }}
# A file needs blocks for its own map as well: what does not fit is halved until nothing fits.
done=0 step=$(free)
while [ "$step" -ge 4096 ] && [ "$(free)" -gt 0 ]; do
  if fallocate -o "$done" -l "$step" "$mount/pgherd-drill-ballast" 2>/dev/null; then
    done=$((done + step))
  else
    step=$((step / 2))
  fi
done
[ "$(free)" -lt 1048576 ] || {{ echo "$mount still has $(free) bytes" >&2; exit 1; }}
"""
EMPTY = f'[ ! -f {BALLAST} ] || {{ rm -f "$(cat {BALLAST})" && rm {BALLAST}; }}'


@dataclass(frozen=True)
class Fault:
    """One thing that breaks.

    target: who breaks when nobody is named (leader, etcd_leader, etcd_follower or balancer);
    text: what happens, for people; make, undo: lines for a shell on the target, with the ports
    that stay open in `DRILL_PORTS`; needs: programs that the target must have.
    """

    target: str
    text: str
    make: str = ""
    undo: str = ""
    needs: tuple[str, ...] = ()


def _stopped(*units: str) -> tuple[str, str]:
    """Return how units are killed so that they stay away, and how they come back."""
    names = " ".join(f"{unit}.service" for unit in units)
    kill = f"systemctl kill --signal=KILL {names} && systemctl stop {names}"
    return kill, f"systemctl reset-failed {names} 2>/dev/null; systemctl start {names}"


FAULTS: dict[str, Fault] = {
    "switchover": Fault("leader", "The lead is handed over, as for maintenance."),
    "postgres_crash": Fault(
        "leader",
        "The postmaster is killed.",
        'kill -KILL "$(pgrep -o -u postgres -x postgres)"',
    ),
    "postgres_hang": Fault(
        "leader",
        "All of PostgreSQL's processes are stopped and stay there.",
        "pkill -STOP -u postgres -x postgres",
        "pkill -CONT -u postgres -x postgres || [ $? -eq 1 ]",
    ),
    "agent_crash": Fault("leader", "The agent is killed.", AGENT.format("KILL")),
    "agent_freeze": Fault(
        "leader",
        "The agent is stopped and stays there.",
        AGENT.format("STOP"),
        AGENT.format("CONT"),
    ),
    "host_stop": Fault(
        "leader",
        "The host loses its power.",
        "systemd-run --collect --quiet systemctl reboot --force --force",
    ),
    "network_partition": Fault(
        "leader", "The host is cut off from everybody.", CUT, HEAL, ("iptables",)
    ),
    "etcd_member_loss": Fault("etcd_follower", "A member of etcd is lost.", *_stopped("etcd")),
    "etcd_leader_loss": Fault("etcd_leader", "etcd's leader is lost.", *_stopped("etcd")),
    "pooler_loss": Fault(
        "leader", "The poolers of a host are lost.", *_stopped("pgbouncer-rw", "pgbouncer-ro")
    ),
    "balancer_loss": Fault("balancer", "HAProxy of a host is lost.", *_stopped("haproxy")),
    "disk_full": Fault(
        "leader", "The disk of the data directory is full.", FILL, EMPTY, ("fallocate", "pgrep")
    ),
}


def fault(name: str) -> Fault:
    """Return the fault *name*. Raises ValueError that lists all when there is none."""
    if name not in FAULTS:
        raise ValueError(
            f"drill: there is no `{name}`{did_you_mean(name, FAULTS)}; "
            f"there are {', '.join(FAULTS)}, and all"
        )
    return FAULTS[name]
