# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and certificates that are kept on the controller."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from ansible_collections.pgherd.cluster.plugins.lookup.certificate import (
    PLACEHOLDER,
    days_left,
    make,
    read_or_make,
    split,
)
from cryptography import x509
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path


def test_one_is_made_once_for_a_name_that_its_authority_vouches_for(tmp_path: Path) -> None:
    place = tmp_path / "tls"
    made = read_or_make(place, "192.0.2.11", "create", 825, 90)
    assert read_or_make(place, "192.0.2.11", "create", 825, 90) == made
    certificate = x509.load_pem_x509_certificate(made["certificate"].encode())
    authority = x509.load_pem_x509_certificate(made["authority"].encode())
    certificate.verify_directly_issued_by(authority)
    [name] = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "192.0.2.11"
    assert 823 < days_left(made["certificate"]) < 826
    assert stat.S_IMODE((place / "192.0.2.11.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_two_names_have_one_authority(tmp_path: Path) -> None:
    one = read_or_make(tmp_path, "one", "create", 825, 90)
    two = read_or_make(tmp_path, "two", "create", 825, 90)
    assert one["authority"] == two["authority"]
    assert one["key"] != two["key"]


def test_one_that_ends_soon_is_made_anew(tmp_path: Path) -> None:
    old = read_or_make(tmp_path, "one", "create", 10, 5)
    new = read_or_make(tmp_path, "one", "create", 825, 90)
    assert new["certificate"] != old["certificate"]
    assert new["authority"] == old["authority"]
    assert read_or_make(tmp_path, "one", "create", 825, 90) == new


def test_a_check_run_makes_nothing(tmp_path: Path) -> None:
    place = tmp_path / "tls"
    assert set(read_or_make(place, "one", "pretend", 825, 90).values()) == {PLACEHOLDER}
    assert not place.exists()
    read_or_make(place, "one", "create", 10, 5)
    assert days_left(read_or_make(place, "one", "pretend", 825, 90)["certificate"]) < 11


def test_what_must_be_there_and_is_not_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is missing: copy the directory"):
        read_or_make(tmp_path, "one", "fail", 825, 90)


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    read_or_make(tmp_path, "one", "create", 825, 90)
    (tmp_path / "one.pem").write_text("nothing")
    with pytest.raises(ValueError, match="has not one key and one certificate"):
        read_or_make(tmp_path, "one", "create", 825, 90)


def test_a_file_has_the_key_and_then_the_certificate() -> None:
    key, certificate = make("one", 1)
    assert split(key + certificate) == (key, certificate)
    with pytest.raises(ValueError, match="has not one key"):
        split(certificate + key)
