# SPDX-License-Identifier: GPL-3.0-or-later
"""The watchdog device: hardware that resets the host unless it is fed (Linux watchdog API).

It is what is left when the guard process itself cannot run. The device is fed only as far as the
reset still comes before the lease ends, so feeding it is never a promise the lease does not keep.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# linux/watchdog.h, with the ioctl numbers of asm-generic: x86 and ARM.
WDIOC_GETSUPPORT: Final = 0x80285700
WDIOC_SETTIMEOUT: Final = 0xC0045706
WDIOC_GETTIMEOUT: Final = 0x80045707
WDIOF_MAGICCLOSE: Final = 0x0100
INFO_BYTES: Final = 40


def say(level: str, text: str) -> None:
    """Write one line for the journal; logging would be a tenth of the guard's memory."""
    sys.stderr.write(f"{level} {text}\n")
    sys.stderr.flush()


class Driver:
    """The system calls, so that tests can stand in for the hardware."""

    def open(self, device: str) -> int:
        return os.open(device, os.O_WRONLY | os.O_CLOEXEC)

    def write(self, fd: int, content: bytes) -> None:
        os.write(fd, content)

    def close(self, fd: int) -> None:
        os.close(fd)

    def is_usable(self, device: str) -> bool:
        return os.access(device, os.W_OK)

    def set_timeout(self, fd: int, seconds: int) -> None:
        fcntl.ioctl(fd, WDIOC_SETTIMEOUT, struct.pack("i", seconds))

    def timeout(self, fd: int) -> int:
        (seconds,) = struct.unpack("i", fcntl.ioctl(fd, WDIOC_GETTIMEOUT, struct.pack("i", 0)))
        return int(seconds)

    def can_stop(self, fd: int) -> bool:
        """Whether the device can be stopped once it runs: magic close, and no `nowayout`."""
        options, _ = struct.unpack_from("II", fcntl.ioctl(fd, WDIOC_GETSUPPORT, bytes(INFO_BYTES)))
        return bool(options & WDIOF_MAGICCLOSE) and not self._nowayout(fd)

    def _nowayout(self, fd: int) -> bool:
        number = os.fstat(fd).st_rdev
        # /dev/watchdog is the miscellaneous device 130 and another name of /dev/watchdog0.
        name = "watchdog0" if os.major(number) == 10 else f"watchdog{os.minor(number)}"
        try:
            return Path(f"/sys/class/watchdog/{name}/nowayout").read_text().strip() == "1"
        except OSError:
            return False


class Watchdog:
    """One device, fed while PostgreSQL is a primary.

    :param clock: seconds on CLOCK_BOOTTIME.
    """

    def __init__(self, clock: Callable[[], float], driver: Driver | None = None) -> None:
        self._clock = clock
        self._driver = driver or Driver()
        self._fd: int | None = None
        self._device = ""
        self._wanted = self._timeout = 0
        self._can_stop = True
        self._is_needed = False
        self._complaint = ""

    def state(self, mode: str, device: str) -> str:
        """Return ``off``, ``active`` (it is fed), ``ready`` (it could be) or ``unavailable``."""
        if mode == "off":
            return "off"
        if self._fd is not None and self._is_needed:
            return "active"
        is_usable = not self._complaint and self._driver.is_usable(device)
        return "ready" if is_usable or self._fd is not None else "unavailable"

    def activate(self, mode: str, device: str, timeout: int) -> None:
        """Have *device* reset the host *timeout* seconds after it was last fed.

        :param mode: ``off``, ``automatic`` or ``required``; it is for others to refuse a primary
            where a required device is not available.
        """
        if mode == "off" or device != self._device:
            self.release()
        if mode == "off":
            return
        self._is_needed = True
        try:
            if self._fd is None:
                self._open(device)
            if timeout != self._wanted:
                self._set(timeout)
        except OSError as error:
            level = "ERROR" if mode == "required" else "INFO"
            self._complain(level, f"no watchdog: {device} cannot be used: {error.strerror}")
            self.release()

    def _open(self, device: str) -> None:
        self._fd = self._driver.open(device)
        self._device, self._wanted = device, 0
        self._can_stop = self._driver.can_stop(self._fd)
        if not self._can_stop:
            say(
                "WARNING", f"{device} cannot be stopped once it runs (nowayout): it is fed for good"
            )

    def _set(self, timeout: int) -> None:
        assert self._fd is not None
        self._driver.set_timeout(self._fd, timeout)
        self._timeout = self._driver.timeout(self._fd)
        if self._timeout > timeout:
            # It would reset the host when another member leads already.
            raise OSError(0, f"it takes {self._timeout} s at least, the lease allows {timeout} s")
        self._wanted, self._complaint = timeout, ""
        say("INFO", f"{self._device} resets this host {self._timeout} s after it was last fed")

    @property
    def must_be_fed(self) -> bool:
        """Whether it runs without need, because it cannot be stopped."""
        return self._fd is not None and not self._is_needed

    def feed(self, lease_end: float) -> None:
        """Put the reset off, unless it would come after *lease_end* then."""
        if self._fd is None:
            return
        if not self._is_needed or self._clock() + self._timeout <= lease_end:
            try:
                self._driver.write(self._fd, b".")
            except OSError as error:
                self._complain("ERROR", f"{self._device} cannot be fed: {error.strerror}")

    def release(self) -> None:
        """Stop the device; one that cannot be stopped is fed on by `feed`."""
        self._is_needed = False
        if self._fd is not None and self._can_stop:
            self.close()

    def close(self) -> None:
        """Stop the device as well as it can be: this process ends."""
        if self._fd is None:
            return
        if not self._can_stop:
            say("CRITICAL", f"{self._device} cannot be stopped and is not fed any more: it resets")
        with contextlib.suppress(OSError):
            self._driver.write(self._fd, b"V")
        self._driver.close(self._fd)
        self._fd, self._wanted = None, 0

    def _complain(self, level: str, text: str) -> None:
        if text != self._complaint:
            say(level, text)
        self._complaint = text
