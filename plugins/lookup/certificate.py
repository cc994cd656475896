# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A key and its certificate, kept in files on the controller, made once and renewed in time."""

from __future__ import annotations

DOCUMENTATION = r"""
name: certificate
short_description: A key and its certificate, kept on the controller
description:
  - Returns key, certificate and the authority's certificate for every name, as PEM texts.
  - Makes them, and the authority, when they are missing and may be made; a certificate that ends
    soon is made anew.
  - The files have mode 0600, directories made on the way have 0700.
version_added: 0.3.0
author: The pgherd developers (@pgherd)
options:
  _terms:
    description: Common names, such as the addresses of hosts.
    required: true
  directory:
    description: Where the files are.
    type: str
    required: true
  missing:
    description: What to do when a file is missing; to make it, to return a placeholder, or to fail.
    type: str
    choices: [create, pretend, fail]
    default: create
  days:
    description: How long a new certificate is good.
    type: int
    default: 825
  renew_days:
    description: With so many days left it is made anew.
    type: int
    default: 90
"""

EXAMPLES = r"""
- name: Show a certificate
  ansible.builtin.debug:
    msg: "{{ lookup('pgherd.cluster.certificate', 'db1', directory='/tmp/tls').certificate }}"
"""

RETURN = r"""
_raw:
  description: Mappings with V(key), V(certificate) and V(authority).
  type: list
  elements: dict
"""

import datetime
import os
import re
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError as error:  # ansible-core brings it along, unless somebody has taken it away
    PROBLEM: Exception | None = error
else:
    PROBLEM = None

PLACEHOLDER = "made-by-the-first-run"
AUTHORITY = "authority"
# The authority outlives what it signs.
AUTHORITY_DAYS = 7300


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def make(name: str, days: int, signer: tuple[str, str] | None = None) -> tuple[str, str]:
    """Return a new key and its certificate for *name*.

    signer: the authority's key and certificate; None to make an authority.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    own = signer is None
    signing_key: Any = key
    issuer = _name(name)
    if signer is not None:
        signing_key = serialization.load_pem_private_key(signer[0].encode(), None)
        issuer = x509.load_pem_x509_certificate(signer[1].encode()).subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks of hosts may differ.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=own, path_length=0 if own else None), critical=True)
    )
    if not own:
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
    signed = builder.sign(signing_key, hashes.SHA256())
    return _pem(key), signed.public_bytes(serialization.Encoding.PEM).decode()


def split(text: str) -> tuple[str, str]:
    """Return key and certificate of a file that has both; raises ValueError."""
    found = re.findall(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----\n", text, re.DOTALL)
    parts = re.split(r"(?=-----BEGIN CERTIFICATE-----)", text, maxsplit=1)
    if found != ["PRIVATE KEY", "CERTIFICATE"] or len(parts) != 2:
        raise ValueError("it has not one key and one certificate")
    return parts[0], parts[1]


def days_left(certificate: str) -> float:
    """Return for how long *certificate* is good."""
    ends = x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc
    return (ends - datetime.datetime.now(datetime.UTC)).total_seconds() / 86400


def _land(path: Path, text: str, *, replace: bool) -> None:
    previous = os.umask(0o077)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(text, encoding="utf-8")
        if replace:
            draft.replace(path)
            return
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass  # another host's process was faster: its is the one
        finally:
            draft.unlink()
    finally:
        os.umask(previous)


def read_or_make(directory: Path, name: str, missing: str, days: int, renew: int) -> dict[str, str]:
    """Return what is known of *name*; *missing* says what to do without its files.

    Raises ValueError for a damaged file or a missing one that must be there, OSError.
    """
    authority, own = directory / f"{AUTHORITY}.pem", directory / f"{name}.pem"
    if missing == "pretend" and not (authority.exists() and own.exists()):
        return dict.fromkeys(("key", "certificate", "authority"), PLACEHOLDER)
    if not authority.exists():
        if missing == "fail":
            raise ValueError(f"{authority} is missing: copy the directory from where it was made")
        _land(authority, "".join(make("pgherd authority", AUTHORITY_DAYS)), replace=False)
    signer = _read(authority)
    if not own.exists():
        _land(own, "".join(make(name, days, signer)), replace=False)
    key, certificate = _read(own)
    if days_left(certificate) < renew and missing != "pretend":
        key, certificate = make(name, days, signer)
        _land(own, key + certificate, replace=True)
    return {"key": key, "certificate": certificate, "authority": signer[1]}


def _read(path: Path) -> tuple[str, str]:
    try:
        return split(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}: delete it to get a new one") from error


class LookupModule(LookupBase):  # type: ignore[misc]
    """See the documentation of pgherd.cluster.certificate."""

    def run(
        self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[dict[str, str]]:
        """Return key and certificates of every name; raises AnsibleLookupError."""
        if PROBLEM is not None:
            raise AnsibleLookupError(f"the controller lacks a Python package: {PROBLEM}")
        self.set_options(var_options=variables, direct=kwargs)
        directory = Path(str(self.get_option("directory"))).expanduser()
        how = str(self.get_option("missing"))
        days, renew = int(self.get_option("days")), int(self.get_option("renew_days"))
        try:
            return [read_or_make(directory, term, how, days, renew) for term in terms]
        except (OSError, ValueError) as error:
            raise AnsibleLookupError(str(error)) from error
