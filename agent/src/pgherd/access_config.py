# SPDX-License-Identifier: GPL-3.0-or-later
"""Sections `restapi` and `ctl`: who may use our REST API, and how we show ourselves to others'."""

from __future__ import annotations

import ssl
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

VERIFY_MODES = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


@dataclass(frozen=True)
class Login:
    """Name and password of the REST API; the password never shows in a repr."""

    username: str
    password: str = field(repr=False)

    @property
    def authorization(self) -> str:
        """The value of the header `Authorization`."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {b64encode(pair).decode()}"


@dataclass(frozen=True)
class ServerTls:
    """The identity the REST API shows, and what it wants to see of its clients."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    key_password: str | None = field(default=None, repr=False)
    ciphers: str | None = None
    verify_client: str = "none"

    def context(self) -> ssl.SSLContext | None:
        """Return a server context, None when no certificate is configured.

        :raises OSError: a file cannot be read or used.
        """
        if not self.certificate:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca)
        # A key that needs a password must not have OpenSSL ask for it on a terminal.
        context.load_cert_chain(self.certificate, self.key, self.key_password or "")
        context.verify_mode = VERIFY_MODES[self.verify_client]
        if self.ciphers:
            context.set_ciphers(self.ciphers)
        return context


@dataclass(frozen=True)
class Access:
    """Who may change something through the REST API, and what its answers carry besides.

    :param login: what unsafe methods ask for; without one they are off.
    :param allowlist: addresses, networks and host names that may use unsafe methods; empty for all.
    :param include_members: the hosts of the members are on that list.
    """

    login: Login | None = None
    allowlist: tuple[str, ...] = ()
    include_members: bool = False
    tls: ServerTls = ServerTls()
    http_headers: Mapping[str, str] = field(default_factory=dict)
    https_headers: Mapping[str, str] = field(default_factory=dict)
    server_tokens: str = "original"


@dataclass(frozen=True)
class Ctl:
    """How the agent and the command line show themselves to the REST API of members.

    :param insecure: do not look at the server's certificate.
    """

    login: Login | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    key_password: str | None = field(default=None, repr=False)
    insecure: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """The header `Authorization`, where there is something to say."""
        return {"Authorization": self.login.authorization} if self.login else {}

    def context(self) -> ssl.SSLContext | None:
        """Return a client context, None when nothing about TLS is configured.

        :raises OSError: a file cannot be read or used.
        """
        if not (self.ca or self.certificate or self.insecure):
            return None
        context = ssl.create_default_context(cafile=self.ca)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key, self.key_password or "")
        return context


def certificate_problems(access: Access, ctl: Ctl) -> list[str]:
    """Return one sentence for each section whose files for TLS cannot be used."""
    problems = []
    for section, context in (("restapi", access.tls.context), ("ctl", ctl.context)):
        try:
            context()
        except OSError as error:
            problems.append(f"{section}: its certificates cannot be used: {error}")
    return problems


def build_access(rest: Mapping[str, Any]) -> Access:
    """Build the server's side from the section `restapi`, once it was found good."""
    tls = ServerTls(
        ca=rest.get("cafile"),
        certificate=rest.get("certfile"),
        key=rest.get("keyfile"),
        key_password=rest.get("keyfile_password"),
        ciphers=rest.get("ciphers"),
        verify_client=str(rest.get("verify_client", "none")).lower(),
    )
    return Access(
        login=_login(rest),
        allowlist=tuple(rest.get("allowlist", ())),
        include_members=rest.get("allowlist_include_members", False),
        tls=tls,
        http_headers=rest.get("http_extra_headers", {}),
        https_headers=rest.get("https_extra_headers", {}),
        server_tokens=str(rest.get("server_tokens", "original")).lower(),
    )


def build_ctl(ctl: Mapping[str, Any], rest: Mapping[str, Any]) -> Ctl:
    """Build the client's side from the section `ctl`; what it lacks is taken from `restapi`.

    A certificate and its key are taken together, from one of the two.
    """
    own = "certfile" in ctl
    source = ctl if own else rest
    return Ctl(
        login=_login(ctl) or _login(rest),
        ca=ctl.get("cacert", rest.get("cafile")),
        certificate=source.get("certfile"),
        key=source.get("keyfile"),
        key_password=source.get("keyfile_password"),
        insecure=ctl.get("insecure", False),
    )


def _login(section: Mapping[str, Any]) -> Login | None:
    given = section.get("authentication") or {}
    return Login(given["username"], given["password"]) if given else None
