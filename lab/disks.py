# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to a data disk: it fills up, becomes read-only, hangs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lab.errors import LabError
from lab.image import DATA_MOUNT

if TYPE_CHECKING:
    from lab.hosts import Lab

FILLER: Final = f"{DATA_MOUNT}/lab-filler"
# The blocks are only set aside, not written: on the engine's machine the disk stays sparse.
FILL: Final = f"""
free() {{ df --output=avail -B1 {DATA_MOUNT} | tail -n 1; }}
fallocate -l "$(free)" {FILLER} 2> /dev/null
n=0
while [ "$(free)" -gt 0 ] && [ $n -lt 100 ]; do
  n=$((n + 1)); fallocate -l "$(free)" {FILLER}.$n || fallocate -l 65536 {FILLER}.$n || break
done 2> /dev/null
true
"""
# What the kernel does by itself when it finds the file system broken: errors=remount-ro.
BREAK: Final = f"""
mkdir -p /run/lab-sys && mount -t sysfs sysfs /run/lab-sys || exit 1
mount -o remount,rw /run/lab-sys
device=$(findmnt -n -o SOURCE {DATA_MOUNT})
echo broken on purpose > "/run/lab-sys/fs/ext4/${{device#/dev/}}/trigger_fs_error"
mount -o remount,ro /run/lab-sys
umount /run/lab-sys
! touch {FILLER} 2> /dev/null
"""


def fill(lab: Lab, host: str) -> None:
    """Leave no byte free on *host*'s data disk, until empty(); raises LabError."""
    _require(lab, host)
    lab.exec(host, ["sh", "-c", FILL])
    lab.progress.line(host, "data disk filled")


def empty(lab: Lab, host: str) -> None:
    """Give back what fill() took."""
    lab.exec(host, ["sh", "-c", f"rm -f {FILLER}*"])
    lab.progress.line(host, "data disk has room again")


def make_read_only(lab: Lab, host: str) -> None:
    """Let *host*'s data disk refuse every write, until the host starts anew; raises LabError."""
    _require(lab, host)
    lab.exec(host, ["sh", "-c", BREAK])
    lab.progress.line(host, "data disk is read-only")


def hang(lab: Lab, host: str) -> None:
    """Let every write to *host*'s data disk wait, until resume(); raises LabError."""
    _require(lab, host)
    lab.exec(host, ["fsfreeze", "--freeze", DATA_MOUNT])
    lab.progress.line(host, "data disk hangs")


def resume(lab: Lab, host: str) -> None:
    """Undo hang(); a disk that does not hang is left as it is."""
    lab.exec(host, ["fsfreeze", "--unfreeze", DATA_MOUNT], check=False)


def is_read_only(lab: Lab, host: str) -> bool:
    """Whether *host*'s data disk refuses writes."""
    return lab.exec(host, ["touch", DATA_MOUNT], check=False)[0] != 0


def _require(lab: Lab, host: str) -> None:
    # Without a disk of its own the host would fill the engine's machine's.
    if lab.exec(host, ["mountpoint", "-q", DATA_MOUNT], check=False)[0] != 0:
        raise LabError(
            f"{host} has no data disk of its own: make the lab anew (make lab-down) with "
            "PGHERD_LAB_DATA_DISK=1."
        )
