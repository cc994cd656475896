# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys, transactions and leases of an etcd cluster. Private to the collection.

Over etcd's JSON gateway: bytes in base64, 64-bit integers as strings.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.pgherd.cluster.plugins.module_utils._http import (
    HttpError,
    HttpFailed,
    HttpNobody,
    HttpRefused,
    HttpSilent,
    Tls,
    request_json,
)

# The argument spec of the fragment pgherd.cluster.etcd.
ETCD_ARGUMENTS: dict[str, dict[str, Any]] = {
    "endpoints": {"type": "list", "elements": "str", "required": True},
    "username": {"type": "str", "default": ""},
    "password": {"type": "str", "default": "", "no_log": True},
    "timeout_seconds": {"type": "float", "default": 3},
    "tls": {"type": "dict", "default": {}},
}
NO_AUTHENTICATION = "authentication is not enabled"
LEASE_IS_GONE = "lease not found"


@dataclass(frozen=True)
class KeyValue:
    """One key as etcd has it; a `lease` of 0 is none."""

    key: str
    value: str
    create_revision: int = 0
    mod_revision: int = 0
    lease: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return what modules hand back."""
        return {
            "key": self.key,
            "value": self.value,
            "create_revision": self.create_revision,
            "mod_revision": self.mod_revision,
            "lease": f"{self.lease:x}" if self.lease else "",
        }


@dataclass
class EtcdStore:
    """An etcd cluster by its endpoints, which are asked in turn.

    Every method raises HttpError's children; an answer that refuses is not asked for elsewhere.
    """

    endpoints: list[str]
    timeout_seconds: float = 3.0
    tls: Tls = field(default_factory=Tls)
    username: str = ""
    password: str = ""
    _token: str | None = None

    @classmethod
    def of(cls, params: dict[str, Any]) -> EtcdStore:
        """Return the store that the options of the fragment name."""
        return cls(
            endpoints=[url.rstrip("/") for url in params["endpoints"]],
            timeout_seconds=params["timeout_seconds"],
            tls=Tls(**(params["tls"] or {})),
            username=params["username"] or "",
            password=params["password"] or "",
        )

    def get(self, key: str) -> KeyValue | None:
        """Return *key*, read through the quorum, or None."""
        found = self._keys({"key": _encode(key)})
        return found[0] if found else None

    def range(self, prefix: str) -> list[KeyValue]:
        """Return all keys that begin with *prefix*, sorted; an empty one means every key."""
        end = prefix_end(prefix.encode())
        start = prefix.encode() or b"\0"
        return self._keys(
            {
                "key": base64.b64encode(start).decode(),
                "range_end": base64.b64encode(end).decode(),
            }
        )

    def put_if(self, key: str, value: str, mod_revision: int, lease: int = 0) -> bool:
        """Write *key* if nobody did since *mod_revision* (0: it was not there); tell whether."""
        put: dict[str, Any] = {"key": _encode(key), "value": _encode(value)}
        if lease:
            put["lease"] = str(lease)
        return self._txn(key, mod_revision, {"request_put": put})

    def delete_if(self, key: str, mod_revision: int) -> bool:
        """Delete *key* if nobody wrote it since *mod_revision*; tell whether."""
        return self._txn(key, mod_revision, {"request_delete_range": {"key": _encode(key)}})

    def lease_grant(self, ttl_seconds: int) -> int:
        """Return the id of a new lease."""
        answer = self._call("/v3/lease/grant", {"TTL": str(ttl_seconds), "ID": "0"})
        return int(answer["ID"])

    def lease_keepalive(self, lease: int) -> int:
        """Renew *lease*; return the seconds it has now, 0 when it is gone."""
        answer = self._call("/v3/lease/keepalive", {"ID": str(lease)})
        return max(int(answer.get("result", {}).get("TTL", 0)), 0)

    def lease_ttl(self, lease: int) -> int:
        """Return the seconds that are left of *lease*, 0 when it is gone."""
        answer = self._call("/v3/lease/timetolive", {"ID": str(lease)})
        return max(int(answer.get("TTL", 0)), 0)

    def lease_revoke(self, lease: int) -> None:
        """Drop *lease* and the keys that hang on it; one that is gone already is fine."""
        try:
            self._call("/v3/lease/revoke", {"ID": str(lease)})
        except HttpFailed as error:
            if LEASE_IS_GONE not in str(error):
                raise

    def _keys(self, body: dict[str, Any]) -> list[KeyValue]:
        return [_key_value(raw) for raw in self._call("/v3/kv/range", body).get("kvs", [])]

    def _txn(self, key: str, mod_revision: int, operation: dict[str, Any]) -> bool:
        compare = {
            "key": _encode(key),
            "target": "MOD",
            "result": "EQUAL",
            "mod_revision": str(mod_revision),
        }
        answer = self._call("/v3/kv/txn", {"compare": [compare], "success": [operation]})
        return bool(answer.get("succeeded", False))

    def _call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask the endpoints in turn until one answers."""
        problems: list[HttpError] = []
        for endpoint in self.endpoints:
            try:
                answer = self._ask(endpoint, path, body)
            except HttpError as error:
                # 503 and 504 (no leader) may be answered better by another member.
                if isinstance(error, HttpFailed) and error.status < 500:
                    raise
                problems.append(error)
                continue
            if not isinstance(answer, dict):
                raise HttpRefused(f"{endpoint}{path} answered {answer!r}; is this etcd?")
            return answer
        said = [f"{url}: {error}" for url, error in zip(self.endpoints, problems)]
        text = f"no etcd endpoint answers ({'; '.join(said) or 'none is given'})"
        if all(isinstance(error, HttpNobody) for error in problems):
            raise HttpNobody(text)
        if any(isinstance(error, HttpSilent) for error in problems):
            raise HttpSilent(text)
        raise HttpRefused(text)

    def _ask(self, endpoint: str, path: str, body: dict[str, Any]) -> Any:
        if self.username and self._token is None:
            self._token = self._authenticate(endpoint)
        return request_json(
            endpoint + path, body, self.timeout_seconds, self.tls, token=self._token or ""
        )

    def _authenticate(self, endpoint: str) -> str:
        """Return a token, the empty one where etcd asks for no user."""
        given = {"name": self.username, "password": self.password}
        try:
            answer = request_json(
                f"{endpoint}/v3/auth/authenticate", given, self.timeout_seconds, self.tls
            )
        except HttpFailed as error:
            if NO_AUTHENTICATION not in str(error):
                raise
            return ""
        return str(answer.get("token", ""))


def prefix_end(prefix: bytes) -> bytes:
    """Return the first key after all keys that begin with *prefix*; NUL, etcd's word for none."""
    raw = bytearray(prefix)
    while raw and raw[-1] == 0xFF:
        raw.pop()
    if not raw:
        return b"\0"
    raw[-1] += 1
    return bytes(raw)


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _key_value(raw: dict[str, Any]) -> KeyValue:
    return KeyValue(
        key=base64.b64decode(raw["key"]).decode(errors="replace"),
        value=base64.b64decode(raw.get("value", "")).decode(errors="replace"),
        create_revision=int(raw.get("create_revision", 0)),
        mod_revision=int(raw.get("mod_revision", 0)),
        lease=int(raw.get("lease", 0)),
    )
