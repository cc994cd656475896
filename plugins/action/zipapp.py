# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a reproducible zipapp on the controller and let the copy action deliver it."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.pgherd.cluster.plugins.module_utils._nearest import did_you_mean

# The first moment a zip file can say: a build today and one next year give the same bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)
DEFAULTS = {
    "source": None,
    "entry_point": None,
    "dest": None,
    "interpreter": "/usr/bin/python3",
    "owner": "root",
    "group": "root",
    "mode": "0755",
}


def build(package: Path, entry_point: str, interpreter: str) -> bytes:
    """Return a zipapp of *package*, the same bytes for the same sources wherever it is built.

    Members are stored, not compressed: two versions of zlib need not agree on the bytes.
    Raises ValueError when there is no package or the entry point is not MODULE:FUNCTION.
    """
    module, colon, function = entry_point.partition(":")
    if not (module and colon and function.isidentifier()):
        raise ValueError(f"entry_point: {entry_point!r} is not MODULE:FUNCTION")
    sources = sorted(
        path
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    )
    if package / "__init__.py" not in sources:
        raise ValueError(f"source: {package} is not a Python package (no __init__.py)")
    members = {str(path.relative_to(package.parent)): path.read_bytes() for path in sources}
    starter = f"import sys\n\nfrom {module} import {function}\n\nsys.exit({function}())\n"
    members["__main__.py"] = starter.encode()
    buffer = io.BytesIO()
    buffer.write(f"#!{interpreter}\n".encode())
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, members[name])
    return buffer.getvalue()


class ActionModule(ActionBase):  # type: ignore[misc]
    """See the documentation of pgherd.cluster.zipapp."""

    _supports_check_mode = True
    _supports_diff = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Build, then run the copy action with the built file; its result is ours."""
        super().run(tmp, task_vars)
        args = self._arguments()
        try:
            content = build(Path(args["source"]), args["entry_point"], args["interpreter"])
        except (OSError, ValueError) as error:
            raise AnsibleActionFail(str(error)) from error
        with tempfile.NamedTemporaryFile(suffix=".pyz") as file:
            file.write(content)
            file.flush()
            return self._copy(file.name, args, task_vars)

    def _arguments(self) -> dict[str, Any]:
        """Return the task's arguments over the defaults; raises AnsibleActionFail for bad ones."""
        for name in self._task.args:
            if name not in DEFAULTS:
                raise AnsibleActionFail(f"{name}: no such option{did_you_mean(name, DEFAULTS)}")
        args = {**DEFAULTS, **self._task.args}
        for name, value in args.items():
            if not value:
                raise AnsibleActionFail(f"{name}: is required")
        return args

    def _copy(
        self, built: str, args: dict[str, Any], task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        task = self._task.copy()
        task.args = {"src": built} | {
            name: args[name] for name in ("dest", "owner", "group", "mode")
        }
        action = self._shared_loader_obj.action_loader.get(
            "ansible.legacy.copy",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        result: dict[str, Any] = action.run(task_vars=task_vars)
        result.pop("src", None)  # a path in this controller's temporary directory tells nothing
        return result
