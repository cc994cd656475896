# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may use the methods that change something: Patroni's rules, codes and texts."""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import hmac
import ipaddress
from base64 import b64decode
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pgherd.answers import Answer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgherd.access_config import Access, Login
    from pgherd.requests import Request

DENIED: Final = Answer(403, "Access is denied")
NO_CERTIFICATE: Final = Answer(403, "client certificate required")
OFF: Final = Answer(403, "unsafe methods are off: set restapi.authentication")
CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="Patroni"'}


async def resolve(host: str) -> set[str]:
    """Return the addresses of *host*, none when it has none."""
    with contextlib.suppress(ValueError):
        # It is one already; names are asked for in a thread, of which there are few.
        return {str(ipaddress.ip_address(host))}
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return set()
    return {str(address[4][0]) for address in found}


async def comes_from(remote: str | None, host: str | None) -> bool:
    """Tell whether the address *remote* is one of *host*'s."""
    return bool(remote and host) and remote in await resolve(host or "")


def hosts_of(urls: Iterable[str]) -> list[str]:
    """Return the hosts in *urls*; one that is no URL has none."""
    hosts = []
    for url in urls:
        try:
            hosts.append(urlsplit(url).hostname or "")
        except ValueError:
            continue
    return [host for host in hosts if host]


async def _is_listed(remote: str, entries: Iterable[str]) -> bool:
    address = ipaddress.ip_address(remote.partition("%")[0])
    for entry in entries:
        try:
            network = ipaddress.ip_network(entry, strict=False)
        except ValueError:
            if await comes_from(remote, entry):
                return True
        else:
            if address in network:
                return True
    return False


def shows_login(request: Request, login: Login) -> bool:
    """Tell whether the request carries name and password, without telling by the time it takes."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        pair = b64decode(given.strip(), validate=True)
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(pair, f"{login.username}:{login.password}".encode())


async def refusal(request: Request, access: Access, member_urls: Iterable[str]) -> Answer | None:
    """Return what to answer instead of doing what an unsafe method asks, None to do it.

    :param member_urls: `api_url` of the members.
    """
    entries = list(access.allowlist)
    if access.include_members:
        entries += hosts_of(member_urls)
    if (entries or access.include_members) and not await _is_listed(request.remote, entries):
        return DENIED
    wants_certificate = request.secure and access.tls.verify_client != "none"
    if wants_certificate and not request.has_certificate:
        return NO_CERTIFICATE
    if access.login is None:
        return OFF
    if "authorization" not in request.headers:
        return Answer(401, "no auth header received", CHALLENGE)
    if not shows_login(request, access.login):
        return Answer(401, "not authenticated", CHALLENGE)
    return None
