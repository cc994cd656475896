# SPDX-License-Identifier: GPL-3.0-or-later
"""Two repositories at once: the repository host's, and storage that speaks S3.

The server is Debian's python3-moto. HAProxy stands before it: moto's own TLS ends connections
without notice, which pgBackRest takes for an attack on them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lab.cluster import MEMBERS
from lab.playbook import deploy, play

if TYPE_CHECKING:
    from collections.abc import Iterator

    from molecule.backup.tests.conftest import Backups

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(900)]
KEEPER = "ops1"
PORT = 9443
AUTHORITY = "/etc/pgbackrest/s3-authority.crt"
SERVE = """
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --yes --no-install-recommends \
    python3-moto python3-flask python3-flask-cors haproxy openssl > /dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
    -keyout /root/s3.key -out /root/s3.crt -subj /CN=s3.test \
    -addext subjectAltName=DNS:s3.test 2> /dev/null
cat /root/s3.key /root/s3.crt > /root/s3.pem
cat > /root/s3.cfg <<END
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend s3
  bind {address}:{port} ssl crt /root/s3.pem
  default_backend moto
backend moto
  # It takes the first word of the name for a bucket.
  http-request set-header Host 127.0.0.1:5555
  server moto 127.0.0.1:5555
END
systemd-run --quiet --collect --unit=test-moto moto_server -H 127.0.0.1 -p 5555
systemd-run --quiet --collect --unit=test-s3 haproxy -W -f /root/s3.cfg
"""
BUCKET = """
import urllib.request
request = urllib.request.Request("http://127.0.0.1:5555/backups", method="PUT")
print(urllib.request.urlopen(request).status)
"""


@pytest.fixture(scope="module")
def storage(backups: Backups) -> Iterator[dict[str, Any]]:
    """Serve a bucket, have it as the second repository, and take it away again."""
    lab = backups.lab
    address = lab.settings.address(KEEPER)
    lab.exec(KEEPER, ["sh", "-c", SERVE.format(address=address, port=PORT)])
    backups.until(
        "The bucket is made",
        lambda: lab.exec(KEEPER, ["python3", "-c", BUCKET], check=False)[0] == 0,
    )
    certificate = lab.exec(KEEPER, ["cat", "/root/s3.crt"])[1]
    for host in (*MEMBERS, KEEPER):
        script = f"cat > {AUTHORITY} <<'END'\n{certificate}\nEND\nchmod 644 {AUTHORITY}\n"
        lab.exec(host, ["sh", "-c", f"{script} echo {address} s3.test >> /etc/hosts"])
    repository = {
        "type": "s3",
        "bucket": "backups",
        "endpoint": f"s3.test:{PORT}",
        "key": "testing",
        "key_secret": "testing",
        "uri_style": "path",
        "path": "/demo",
        "ca_file": AUTHORITY,
    }
    try:
        yield repository
    finally:
        deploy()
        lab.exec(KEEPER, ["systemctl", "stop", "test-s3", "test-moto"], check=False)


def test_wal_and_backups_go_to_both_and_the_second_is_proven(
    backups: Backups, storage: dict[str, Any]
) -> None:
    variables = {"pgbackrest_repositories": [{"type": "host"}, storage]}
    deploy(variables)
    assert sum(deploy(variables).changed.values()) == 0
    backups.write("CREATE TABLE IF NOT EXISTS both_places (id int)")
    backups.await_archived()
    taken = play("backup", backup_type="full")
    assert taken.code == 0, taken.output
    assert "in repository 1" in taken.output
    assert "in repository 2" in taken.output
    told = json.loads(backups.run(KEEPER, "info", "--json")[1])
    assert [each["problem"] for each in told["repositories"]] == ["", ""]
    assert [each["missing_wal_since_newest"] for each in told["repositories"]] == [[], []]
    drill = play("restore_drill", restore_repository=2)
    assert drill.code == 0, drill.output
    assert "Restore drill of demo: passed" in drill.output
