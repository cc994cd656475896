#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring several small files to a host in one go."""

from __future__ import annotations

DOCUMENTATION = r"""
module: files
short_description: Bring several small files and directories to a host in one go
description:
  - One connection for all of them, where a task for each would need several.
  - What differs is checked first, all of it, and nothing lands when one of the files is wrong.
  - A file lands in one step, with its owner and its mode; nobody else can read it before.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
options:
  files:
    description:
      - The files and directories, in the order in which they land.
      - Directories above one that is made are made with the same rights.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where it is; the directory of a file is there, or stands before it in the list.
        type: path
        required: true
      state:
        description:
          - V(file) and V(directory) are made or changed.
          - A V(once) is a file that is made when it is missing; later only its rights count.
          - What is to be V(absent) is a file.
        type: str
        choices: [file, once, directory, absent]
        default: file
      content:
        description: All that is in the file.
        type: str
        default: ''
      owner:
        description: Its owner.
        type: str
        default: root
      group:
        description: Its group.
        type: str
        default: root
      mode:
        description: Its mode, in octal digits.
        type: str
        default: '0644'
      validate:
        description:
          - A command that fails when the content is wrong; C(%s) is where that lies meanwhile.
          - Not run in a check run.
        type: str
        default: ''
attributes:
  check_mode:
    description: Says what would change.
    support: full
  diff_mode:
    description: Shows each file, and owner, group and mode where they differ.
    support: full
"""

EXAMPLES = r"""
- name: Write the settings
  pgherd.cluster.files:
    files:
      - path: /etc/example
        state: directory
        mode: "0755"
      - path: /etc/example/example.conf
        content: "{{ lookup('ansible.builtin.template', 'example.conf.j2') }}"
        validate: /usr/sbin/example --check %s
"""

RETURN = r"""
paths:
  description: What was changed.
  returned: always
  type: list
  elements: str
  sample: [/etc/example/example.conf]
"""

import grp
import os
import pwd
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from collections.abc import Callable


class FilesError(Exception):
    """Something is not as it must be; the message says what, and where."""


def found(path: Path) -> tuple[str, dict[str, str], bytes]:
    """Return what *path* is (file, directory, link or absent), who may do what, and its content."""
    try:
        seen = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return "absent", {}, b""
    if stat.S_ISLNK(seen.st_mode):
        if not path.is_dir():
            return "link", {}, b""
        seen = path.stat()
    rights = {
        "owner": str(seen.st_uid),
        "group": str(seen.st_gid),
        "mode": f"{stat.S_IMODE(seen.st_mode):04o}",
    }
    if stat.S_ISDIR(seen.st_mode):
        return "directory", rights, b""
    if not stat.S_ISREG(seen.st_mode):
        raise FilesError(f"{path} is neither a file nor a directory")
    return "file", rights, path.read_bytes()


def wanted_rights(entry: dict[str, Any]) -> dict[str, str]:
    """Return the numbers of who may do what; raises FilesError for unknown names."""
    try:
        owner = pwd.getpwnam(entry["owner"]).pw_uid
        group = grp.getgrnam(entry["group"]).gr_gid
        mode = int(entry["mode"], 8)
    except (KeyError, ValueError) as error:
        raise FilesError(f"{entry['path']}: {error}") from error
    return {"owner": str(owner), "group": str(group), "mode": f"{mode:04o}"}


def difference(entry: dict[str, Any], *, certain: bool) -> list[dict[str, Any]]:
    """Return how *entry* differs from what there is, as Ansible shows it; nothing when it does not.

    certain: whether owner and group must be known; in a check run they may be made by then.
    Raises FilesError.
    """
    path, state = Path(entry["path"]), entry["state"]
    kind, rights, content = found(path)
    headers = {"before_header": entry["path"], "after_header": entry["path"]}
    if state == "absent":
        return [] if kind == "absent" else [{**headers, "before": kind, "after": "absent"}]
    if "directory" in (kind, state) and kind not in (state, "absent"):
        raise FilesError(f"{path} is a {kind} already")
    differs = []
    wanted = entry["content"].encode()
    made = ("absent",) if state == "once" else ("absent", "link")
    if kind in made or (state == "file" and content != wanted):
        before = content.decode(errors="replace") if kind == "file" else kind
        after = "directory" if state == "directory" else entry["content"]
        differs.append({**headers, "before": before, "after": after})
    if certain or kind != "absent":
        needed = wanted_rights(entry)
        if rights not in (needed, {}):
            differs.append({**headers, "before": rights, "after": needed})
    return differs


def land(entry: dict[str, Any]) -> None:
    """Make *entry* what it must be; raises FilesError or OSError."""
    path, state = Path(entry["path"]), entry["state"]
    if state == "absent":
        path.unlink()
        return
    rights = wanted_rights(entry)
    owner, group, mode = int(rights["owner"]), int(rights["group"]), int(rights["mode"], 8)
    kind, _access, content = found(path)
    if (
        state == "directory"
        or (kind == "file" and state == "once")
        or (kind == "file" and content == entry["content"].encode())
    ):
        made = [each for each in (path, *path.parents) if not each.exists()]
        for each in reversed(made):
            each.mkdir(mode=0o700)
        for each in made or [path]:
            os.chown(each, owner, group)
            each.chmod(mode)
        return
    # Only its owner may read it until it is whole and has its rights.
    descriptor, temporary = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.", suffix=".new"
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(entry["content"].encode())
            os.fchown(file.fileno(), owner, group)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def settle(
    entries: list[dict[str, Any]], check: Callable[[str, str], str], *, changes: bool
) -> tuple[list[str], list[dict[str, Any]]]:
    """Return which *entries* differed, and how; they do not any more when *changes* are made.

    check: returns what is wrong with a content by a command, empty when nothing is.
    Raises FilesError or OSError.
    """
    differing = {entry["path"]: difference(entry, certain=changes) for entry in entries}
    due = [entry for entry in entries if differing[entry["path"]]]
    if changes:
        for entry in due:
            if entry["validate"] and (wrong := check(entry["validate"], entry["content"])):
                raise FilesError(f"{entry['path']} would be wrong: {wrong}")
        for entry in due:
            land(entry)
    return [entry["path"] for entry in due], [
        each for path in differing for each in differing[path]
    ]


def checker(module: AnsibleModule) -> Callable[[str, str], str]:
    """Return how to check a content by a command."""

    def check(command: str, content: str) -> str:
        if "%s" not in command:
            raise FilesError(f"validate: {command!r} has no %s")
        path = Path(tempfile.mkdtemp(dir=module.tmpdir)) / "content"
        path.write_text(content, encoding="utf-8")
        code, out, err = module.run_command(command.replace("%s", str(path)))
        return "" if code == 0 else f"{(err + out).strip() or 'nothing is said'} (exit code {code})"

    return check


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "state": {
                        "type": "str",
                        "choices": ["file", "once", "directory", "absent"],
                        "default": "file",
                    },
                    "content": {"type": "str", "default": ""},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "mode": {"type": "str", "default": "0644"},
                    "validate": {"type": "str", "default": ""},
                },
            }
        },
        supports_check_mode=True,
    )
    # Until it has its own mode, whatever is made is for root only.
    os.umask(0o077)
    try:
        paths, differing = settle(
            module.params["files"], checker(module), changes=not module.check_mode
        )
    except (FilesError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(paths), paths=paths, diff=differing)


if __name__ == "__main__":
    main()
