# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts' image: a bare Debian with systemd, made once and kept under a tag of its recipe."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from docker.errors import APIError, BuildError, ImageNotFound

from lab.errors import LabError

if TYPE_CHECKING:
    import docker

    from lab.progress import Progress
    from lab.settings import Settings

REPOSITORY: Final = "pgherd-lab"
BUILD_SECONDS_MAX: Final = 900
PACKAGES: Final = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "python3",
    "python3-apt",
    "iproute2",
    "iptables",
    "ca-certificates",
    "sudo",
    "procps",
    "e2fsprogs",
)
DATA_MOUNT: Final = "/var/lib/postgresql"
DATA_IMAGE: Final = "/var/lib/lab-data.img"
# systemd must see a cgroup v2 tree of its own, also on engines that still use cgroup v1.
CGROUP: Final = "umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 1"
# A sparse file, mounted before systemd at every start, as a disk is; a container's /dev has no
# loop devices of its own. Checked first: the last power cut or fault may have left errors.
DATA_DISK: Final = f"""
[ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237
for n in $(seq 0 63); do [ -e /dev/loop$n ] || mknod /dev/loop$n b 7 $n; done
[ -e {DATA_IMAGE} ] || {{ truncate -s 6G {DATA_IMAGE}; mkfs.ext4 -q -m 0 {DATA_IMAGE}; }}
e2fsck -p {DATA_IMAGE}
mkdir -p {DATA_MOUNT}
mount -o loop,errors=remount-ro {DATA_IMAGE} {DATA_MOUNT} || exit 1
"""
# The hosts are thrown away: dpkg need not survive a power cut, nobody reads their manuals.
DPKG_OPTIONS: Final = (
    "force-unsafe-io",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
)
# Suites a Debian mirror serves; anything else in the machine's sources is no Debian mirror.
DEBIAN_SUITES: Final = frozenset(
    {"bullseye", "bookworm", "trixie", "forky", "sid", "testing", "unstable"}
    | {"stable", "oldstable", "oldoldstable"}
)
# What the machine's own apt needs to reach its mirror, the hosts' needs too.
APT_OPTIONS: Final = (
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::Retries",
)
DOCKERFILE: Final = """\
FROM {base}
RUN printf '%s\\n' {dpkg} > /etc/dpkg/dpkg.cfg.d/lab \\
 && apt-get update \\
 && apt-get install -y --no-install-recommends {packages} \\
 && rm -rf /etc/apt/apt.conf.d/docker-* /var/lib/apt/lists/* /etc/machine-id \\
 && touch /etc/machine-id
"""


def init(settings: Settings) -> str:
    """Return the script that is a host's first process; it ends as systemd."""
    disk = DATA_DISK if settings.data_disk else "\n"
    return f"{CGROUP}{disk}exec /lib/systemd/systemd"


def tag(settings: Settings) -> str:
    """Return the image's name; it changes with the recipe, so a stale image is never used."""
    recipe = repr((settings.codename, PACKAGES, DPKG_OPTIONS, DOCKERFILE))
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:10]
    return f"{REPOSITORY}:{settings.release}-{digest}"


def ensure(client: docker.DockerClient, settings: Settings, progress: Progress) -> str:
    """Return the image's name, having made the image when the engine lacks it.

    Raises LabError when it cannot be made.
    """
    name = tag(settings)
    try:
        client.images.get(name)
    except ImageNotFound:
        pass
    else:
        progress.line("image", f"{name} is there")
        return name
    mirror = _debian_mirror() if shutil.which("mmdebstrap") else None
    if mirror is None:
        progress.line("image", f"{name}: building on debian:{settings.release} (once)")
        _build_on_base(client, settings, name)
    else:
        progress.line("image", f"{name}: building from Debian packages (once)")
        _build_from_packages(client, settings, name, mirror)
    progress.line("image", "built")
    return name


def _debian_mirror() -> str | None:
    """Return the Debian mirror that this machine's apt uses, or None when it uses none."""
    if not shutil.which("apt-get"):
        return None
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in listing.stdout.splitlines():
        suite, _, uri = line.partition(" ")
        if suite in DEBIAN_SUITES and uri:
            return uri
    return None


def _apt_options() -> list[str]:
    """Return those of APT_OPTIONS that this machine sets, as lines of an apt.conf."""
    dump = subprocess.run(
        ["apt-config", "dump", "--no-empty"], capture_output=True, text=True, check=False
    )
    return [line for line in dump.stdout.splitlines() if line.partition(" ")[0] in APT_OPTIONS]


def _build_from_packages(
    client: docker.DockerClient, settings: Settings, name: str, mirror: str
) -> None:
    with tempfile.TemporaryDirectory(prefix="pgherd-lab-") as scratch:
        archive = Path(scratch, "base.tar")
        command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
        command += [f"--aptopt={line}" for line in _apt_options()]
        command += [f"--dpkgopt={line}" for line in DPKG_OPTIONS]
        command += [settings.codename, str(archive), f"deb {mirror} {settings.codename} main"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS_MAX
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(
                f"mmdebstrap was not done within {BUILD_SECONDS_MAX} s: is the Debian mirror of "
                "this machine's apt configuration reachable? Try apt-get update."
            ) from error
        if done.returncode != 0:
            tail = "\n".join(done.stderr.strip().splitlines()[-5:])
            raise LabError(
                "mmdebstrap failed: run apt-get update to see whether this machine's Debian mirror "
                f"answers, and mind that mmdebstrap wants root. Its last words:\n{tail}"
            )
        repository, _, version = name.partition(":")
        try:
            client.api.import_image_from_file(str(archive), repository=repository, tag=version)
        except APIError as error:
            raise LabError(f"The engine refused the image: {error}") from error


def _build_on_base(client: docker.DockerClient, settings: Settings, name: str) -> None:
    text = DOCKERFILE.format(
        base=f"debian:{settings.release}",
        dpkg=" ".join(f"'{option}'" for option in DPKG_OPTIONS),
        packages=" ".join(PACKAGES),
    )
    try:
        client.images.build(fileobj=io.BytesIO(text.encode()), tag=name, rm=True, forcerm=True)
    except (APIError, BuildError) as error:
        raise LabError(
            f"The image cannot be built on debian:{settings.release}: install mmdebstrap "
            "(apt-get install mmdebstrap) to make it from Debian packages, or give the engine a "
            f"registry that has the base. [{error}]"
        ) from error
