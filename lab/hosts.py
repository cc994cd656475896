# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts' life: make, start, stop, kill, freeze, take away."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from docker.errors import APIError, NotFound
from docker.types import IPAMConfig, IPAMPool

from lab import engine, image
from lab.errors import LabError
from lab.progress import Progress
from lab.settings import HOST_NAMES, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import docker

Item = TypeVar("Item")
Result = TypeVar("Result")

LABEL: Final = "pgherd.lab"
START_SECONDS_MAX: Final = 90
STOP_SECONDS: Final = 30
CAPABILITIES: Final = ("SYS_ADMIN", "NET_ADMIN", "NET_RAW", "SYS_PTRACE", "SYS_BOOT")
# Loop devices, for hosts with a data disk of their own.
DISK_DEVICES: Final = ("b 7:* rmw", "c 10:237 rmw")


@dataclass(frozen=True)
class HostStatus:
    """What is known of a host: `state` is Docker's (running, exited, paused) or `absent`."""

    name: str
    address: str
    container: str
    state: str
    system: str


@dataclass
class Lab:
    """One lab on one engine; every method touches only what carries this lab's label.

    Every method raises LabError, in a sentence with the remedy, when it cannot do its work.
    """

    settings: Settings = field(default_factory=Settings.from_environment)
    progress: Progress = field(default_factory=Progress)
    client: docker.DockerClient = field(default_factory=engine.connect)

    def build_image(self) -> str:
        """Make the hosts' image when it is missing; return its name."""
        return image.ensure(self.client, self.settings, self.progress)

    def up(self, hosts: Sequence[str] = HOST_NAMES) -> None:
        """Make what is missing, start what is stopped, and wait for systemd in every host."""
        name = self.build_image()
        self._ensure_network()
        for host in hosts:
            self._ensure_host(host, name)
        self._each(hosts, self._await_system)

    def down(self) -> None:
        """Remove this lab's hosts with their data, and its network."""
        containers = self._own_containers()
        self._each(containers, lambda container: container.remove(force=True, v=True))
        for container in containers:
            self.progress.line(container.name, "removed")
        for network in self.client.networks.list(filters={"label": self._label()}):
            network.remove()
            self.progress.line(network.name, "network removed")

    def status(self) -> list[HostStatus]:
        """Return what is known of every host."""
        return self._each(HOST_NAMES, self._status)

    def kill(self, host: str) -> None:
        """Take *host* away at once, as a power cut does."""
        self._act(host, "killed", lambda container: container.kill())

    def stop(self, host: str) -> None:
        """Shut *host* down in good order."""
        self._act(host, "stopped", lambda container: container.stop(timeout=STOP_SECONDS))

    def start(self, host: str, *, wait: bool = True) -> None:
        """Switch *host* on, at its old address; *wait* until systemd is up."""
        self._act(host, "started", lambda container: container.start())
        if wait:
            self._await_system(host)

    def pause(self, host: str) -> None:
        """Freeze every process of *host*; its address still takes packets."""
        self._act(host, "paused", lambda container: container.pause())

    def unpause(self, host: str) -> None:
        """Let a frozen *host* go on."""
        self._act(host, "unpaused", lambda container: container.unpause())

    def exec(
        self, host: str, command: Sequence[str], *, user: str = "root", check: bool = True
    ) -> tuple[int, str]:
        """Run *command* in *host*; return its exit code and output, standard error included.

        Raises LabError when *check* is set and the command fails.
        """
        name = self.container(host).name
        code, text = engine.execute(name, command, user=user)
        if check and code != 0:
            raise LabError(f"{host}: {' '.join(command)} ended with {code}: {text.strip()}")
        return code, text

    def container(self, host: str) -> Any:
        """Return the container that is *host*; raises LabError when there is none of this lab."""
        name = self.settings.container(host)
        try:
            container = self.client.containers.get(name)
        except NotFound as error:
            raise LabError(f"{host} does not exist: make lab-up makes it.") from error
        if container.labels.get(LABEL) != self.settings.name:
            raise LabError(
                f"A container {name} exists and is not of this lab: remove it (docker rm {name}) "
                "or choose another name in PGHERD_LAB_NAME."
            )
        return container

    def _label(self) -> str:
        return f"{LABEL}={self.settings.name}"

    def _own_containers(self) -> list[Any]:
        return list(self.client.containers.list(all=True, filters={"label": self._label()}))

    def _each(self, items: Sequence[Item], work: Callable[[Item], Result]) -> list[Result]:
        with ThreadPoolExecutor(max_workers=8) as pool:
            return list(pool.map(work, items))

    def _act(self, host: str, done: str, work: Callable[[Any], object]) -> None:
        container = self.container(host)
        try:
            work(container)
        except APIError as error:
            raise LabError(f"{host} cannot be {done}: {error.explanation}") from error
        self.progress.line(host, done)

    def _status(self, host: str) -> HostStatus:
        name = self.settings.container(host)
        address = self.settings.address(host)
        try:
            container = self.client.containers.get(name)
        except NotFound:
            return HostStatus(host, address, name, "absent", "-")
        system = "-"
        if container.status == "running":
            system = self._system_state(container) or "starting"
        return HostStatus(host, address, name, container.status, system)

    def _ensure_network(self) -> None:
        name = self.settings.name
        for network in self.client.networks.list(names=[f"^{name}$"]):
            pools = network.attrs["IPAM"]["Config"] or [{}]
            if network.attrs["Labels"].get(LABEL) != name:
                raise LabError(
                    f"A Docker network {name} exists and is not of this lab: remove it (docker "
                    f"network rm {name}) or choose another name in PGHERD_LAB_NAME."
                )
            if pools[0].get("Subnet") != self.settings.subnet:
                raise LabError(
                    f"The lab {name} was made with the subnet {pools[0].get('Subnet')}, not "
                    f"{self.settings.subnet}: take it down first (make lab-down)."
                )
            return
        pool = IPAMPool(subnet=self.settings.subnet, gateway=self.settings.gateway)
        try:
            self.client.networks.create(
                name,
                driver="bridge",
                ipam=IPAMConfig(pool_configs=[pool]),
                labels={LABEL: name},
                check_duplicate=True,
            )
        except APIError as error:
            raise LabError(
                f"The subnet {self.settings.subnet} cannot be used ({error.explanation}): name "
                "another /24 in PGHERD_LAB_SUBNET (--subnet), such as 10.87.14.0/24."
            ) from error
        self.progress.line(name, f"network {self.settings.subnet}")

    def _ensure_host(self, host: str, image_name: str) -> None:
        found = self.client.containers.list(
            all=True, filters={"name": f"^/{self.settings.container(host)}$"}
        )
        if not found:
            self._create(host, image_name)
            self._act(host, "made", lambda container: container.start())
            return
        container = self.container(host)
        release = container.labels.get(f"{LABEL}.release")
        if release != self.settings.release:
            raise LabError(
                f"{host} is a Debian {release}, not {self.settings.release}: take the lab down "
                "first (make lab-down)."
            )
        if container.status == "paused":
            self.unpause(host)
        elif container.status != "running":
            self._act(host, "started", lambda stopped: stopped.start())

    def _create(self, host: str, image_name: str) -> None:
        # Neither --privileged nor --ulimit: engines without CAP_SYS_RESOURCE refuse both.
        api = self.client.api
        network = self.settings.name
        endpoint = api.create_endpoint_config(
            ipv4_address=self.settings.address(host), aliases=[host]
        )
        try:
            api.create_container(
                image_name,
                command=["/bin/sh", "-c", image.init(self.settings)],
                name=self.settings.container(host),
                hostname=host,
                environment={"container": "docker"},
                labels={LABEL: self.settings.name, f"{LABEL}.release": self.settings.release},
                stop_signal="SIGRTMIN+3",
                networking_config=api.create_networking_config({network: endpoint}),
                host_config=api.create_host_config(
                    network_mode=network,
                    cap_add=list(CAPABILITIES),
                    security_opt=["seccomp=unconfined", "apparmor=unconfined"],
                    cgroupns="private",
                    tmpfs={"/run": "", "/run/lock": ""},
                    shm_size="1g",
                    device_cgroup_rules=list(DISK_DEVICES) if self.settings.data_disk else None,
                ),
            )
        except APIError as error:
            raise LabError(f"{host} cannot be made: {error.explanation}") from error

    def _await_system(self, host: str) -> None:
        container = self.container(host)
        deadline = time.monotonic() + START_SECONDS_MAX
        state = ""
        while time.monotonic() < deadline:
            state = self._system_state(container)
            if state == "running":
                self.progress.line(host, f"{self.settings.address(host)}  systemd is running")
                return
            if state == "degraded":
                break
            time.sleep(0.2)
        units = self.exec(host, ["systemctl", "--failed", "--plain", "--no-legend"], check=False)[1]
        raise LabError(
            f"{host}: systemd is {state or 'silent'}, not running; look into it with docker exec "
            f"-it {container.name} journalctl -b. Failed units: {units.strip() or 'none'}"
        )

    def _system_state(self, container: Any) -> str:
        """Return systemd's word for the host's state; empty while it cannot be asked."""
        # Docker says in many words that the container ended or has not begun; systemd says one.
        words = engine.execute(container.name, ["systemctl", "is-system-running"])[1].split()
        return words[-1] if len(words) == 1 else ""
