# SPDX-License-Identifier: GPL-3.0-or-later
"""The watchdog device: fed as far as the lease goes, stopped in order. No hardware is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.tests.builders import NOW, config
from agent.tests.fake_watchdog import Hardware
from agent.tests.fakes import Clock
from pgherd.config import Watchdog as WatchdogConfig
from pgherd.watchdog import Driver, Watchdog

DEVICE = "/dev/watchdog"


class Rig:
    def __init__(self) -> None:
        self.clock = Clock()
        self.hardware = Hardware()
        self.watchdog = Watchdog(self.clock, self.hardware)

    def calls(self) -> list[str]:
        """Return what was done since this was asked last."""
        calls, self.hardware.calls = self.hardware.calls, []
        return calls

    def activate(self, mode: str = "automatic", device: str = DEVICE, timeout: int = 4) -> None:
        self.watchdog.activate(mode, device, timeout)

    def state(self, mode: str = "automatic") -> str:
        return self.watchdog.state(mode, DEVICE)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_primary_has_it_opened_set_and_fed_then_stopped(rig: Rig) -> None:
    states = [rig.state()]
    rig.activate()
    rig.watchdog.feed(NOW + 5)
    states.append(rig.state())
    rig.watchdog.release()
    states.append(rig.state())
    assert rig.calls() == [f"open {DEVICE}", "timeout 4", "feed", "stop", "close"]
    assert states == ["ready", "active", "ready"]


def test_it_is_opened_once_for_many_renewals(rig: Rig) -> None:
    for _ in range(3):
        rig.activate()
        rig.watchdog.feed(NOW + 5)
    assert rig.calls() == [f"open {DEVICE}", "timeout 4", "feed", "feed", "feed"]


@pytest.mark.parametrize(("later", "fed"), [(0.9, ["feed"]), (1.0, ["feed"]), (1.1, [])])
def test_it_is_fed_only_while_the_reset_still_comes_before_the_lease_ends(
    rig: Rig, later: float, fed: list[str]
) -> None:
    """The lease is good until NOW + 5 and the device waits 4 s after it was last fed."""
    rig.activate()
    rig.calls()
    rig.clock.now = NOW + later
    rig.watchdog.feed(NOW + 5)
    assert rig.calls() == fed


def test_another_ttl_sets_another_timeout(rig: Rig) -> None:
    rig.activate(timeout=4)
    rig.activate(timeout=27)
    assert rig.calls() == [f"open {DEVICE}", "timeout 4", "timeout 27"]


def test_a_device_that_takes_too_long_is_not_used(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would reset the host when another member leads already."""
    rig.hardware.least_timeout = 10
    rig.activate()
    assert rig.calls() == [f"open {DEVICE}", "timeout 10", "stop", "close"]
    assert rig.state() == "unavailable"
    assert "it takes 10 s at least, the lease allows 4 s" in capsys.readouterr().err


@pytest.mark.parametrize(("mode", "level"), [("automatic", "INFO"), ("required", "ERROR")])
def test_where_there_is_none_that_is_said_once(
    rig: Rig, capsys: pytest.CaptureFixture[str], mode: str, level: str
) -> None:
    rig.hardware.is_there = False
    assert rig.state(mode) == "unavailable"
    for _ in range(3):
        rig.activate(mode)
        rig.watchdog.feed(NOW + 5)
    assert rig.state(mode) == "unavailable"
    problems = f"{level} no watchdog: {DEVICE} cannot be used: No such file or directory\n"
    assert capsys.readouterr().err == problems


def test_switched_off_it_is_left_alone(rig: Rig) -> None:
    rig.activate("off")
    rig.watchdog.feed(NOW + 5)
    assert (rig.calls(), rig.state("off")) == ([], "off")


def test_switched_off_while_it_runs_it_is_stopped(rig: Rig) -> None:
    rig.activate()
    rig.calls()
    rig.activate("off")
    assert rig.calls() == ["stop", "close"]


def test_another_device_replaces_it(rig: Rig) -> None:
    rig.activate()
    rig.calls()
    rig.activate(device="/dev/watchdog1")
    assert rig.calls() == ["stop", "close", "open /dev/watchdog1", "timeout 4"]


def test_one_that_cannot_be_stopped_is_fed_for_good(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    """A standby must not be reset because it was a primary once."""
    rig.hardware.stops = False
    rig.activate()
    rig.watchdog.release()
    assert rig.watchdog.must_be_fed
    rig.clock.now += 100
    rig.watchdog.feed(0.0)
    assert rig.calls() == [f"open {DEVICE}", "timeout 4", "feed"]
    assert "nowayout" in capsys.readouterr().err
    rig.watchdog.close()
    assert "CRITICAL" in capsys.readouterr().err


def test_one_that_breaks_is_told_and_ends_nobody(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.activate()
    rig.hardware.breaks = True
    rig.watchdog.feed(NOW + 5)
    rig.watchdog.close()
    assert "cannot be fed: Input/output error" in capsys.readouterr().err


class TestDriver:
    """The system calls themselves, on files that are no watchdog."""

    def test_what_is_no_watchdog_is_not_used(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        device = tmp_path / "watchdog"
        device.touch()
        watchdog = Watchdog(Clock(), Driver())
        watchdog.activate("automatic", str(device), 4)
        assert watchdog.state("automatic", str(device)) == "unavailable"
        assert "cannot be used" in capsys.readouterr().err
        # Had it been one, it would have been stopped again.
        assert device.read_bytes() == b"V"

    def test_bytes_arrive_as_the_kernel_expects_them(self, tmp_path: Path) -> None:
        fifo = tmp_path / "watchdog"
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        driver = Driver()
        fd = driver.open(str(fifo))
        driver.write(fd, b".")
        driver.write(fd, b"V")
        driver.close(fd)
        assert os.read(reader, 10) == b".V"
        os.close(reader)

    def test_a_device_that_may_not_be_written_is_not_usable(self, tmp_path: Path) -> None:
        assert not Driver().is_usable(str(tmp_path / "none"))


def test_the_configuration_names_mode_and_device() -> None:
    assert config().watchdog == WatchdogConfig("automatic", Path("/dev/watchdog"))
    # What YAML makes of a bare `off`.
    assert config(watchdog={"mode": False}).watchdog.mode == "off"
    given = {"mode": "required", "device": "/dev/watchdog1"}
    assert config(watchdog=given).watchdog == WatchdogConfig("required", Path("/dev/watchdog1"))
