# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and directories that land together, or not at all."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.pgherd.cluster.plugins.modules.files import FilesError, settle

if TYPE_CHECKING:
    from pathlib import Path

OWNER = pwd.getpwuid(os.getuid()).pw_name
GROUP = grp.getgrgid(os.getgid()).gr_name


def entry(path: Path, content: str = "", **more: str) -> dict[str, Any]:
    """Return an entry as the module gets it."""
    known = {"state": "file", "owner": OWNER, "group": GROUP, "mode": "0640", "validate": ""}
    return {"path": str(path), "content": content, **known, **more}


def refuse_wrong(command: str, content: str) -> str:
    """Stand for a command that checks a content."""
    return f"{command} says no" if "wrong" in content else ""


def run(*entries: dict[str, Any], changes: bool = True) -> tuple[list[str], list[dict[str, Any]]]:
    """Run the module's work."""
    found: tuple[list[str], list[dict[str, Any]]]
    found = settle(list(entries), refuse_wrong, changes=changes)
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_missing_is_made_and_the_second_run_changes_nothing(tmp_path: Path) -> None:
    folder, path = tmp_path / "conf.d", tmp_path / "conf.d" / "a.conf"
    entries = [entry(folder, state="directory", mode="0750"), entry(path, "a = ä\n")]
    paths, differing = run(*entries)
    assert paths == [str(folder), str(path)]
    assert [each["after"] for each in differing] == ["directory", "a = ä\n"]
    assert (path.read_text(), mode(path), mode(folder)) == ("a = ä\n", 0o640, 0o750)
    assert run(*entries) == ([], [])


def test_directories_above_one_are_made_with_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "17" / "demo"
    assert run(entry(path, state="directory", mode="0700"))[0] == [str(path)]
    assert (mode(path.parent), mode(path)) == (0o700, 0o700)
    tmp_path.chmod(0o755)
    path.parent.chmod(0o750)
    assert run(entry(path, state="directory", mode="0711"))[0] == [str(path)]
    assert [mode(each) for each in (path, path.parent, tmp_path)] == [0o711, 0o750, 0o755]


def test_only_what_differs_is_written_and_shown(tmp_path: Path) -> None:
    same, other = tmp_path / "same", tmp_path / "other"
    run(entry(same, "1"), entry(other, "old"))
    before = same.stat().st_ino
    paths, [differing] = run(entry(same, "1"), entry(other, "new"))
    assert paths == [str(other)]
    assert (differing["before"], differing["after"]) == ("old", "new")
    assert same.stat().st_ino == before
    assert other.read_text() == "new"


def test_a_mode_is_put_right_without_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    run(entry(path, "1"))
    before = path.stat().st_ino
    path.chmod(0o666)
    paths, [differing] = run(entry(path, "1"))
    assert paths == [str(path)]
    assert (differing["before"]["mode"], differing["after"]["mode"]) == ("0666", "0640")
    assert (mode(path), path.stat().st_ino) == (0o640, before)


@pytest.mark.parametrize("uid", [0, 1])
def test_an_owner_is_put_right(tmp_path: Path, uid: int) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root: only root gives files away")
    path = tmp_path / "a"
    path.write_text("old")
    os.chown(path, 1 - uid, 1 - uid)
    names = {"owner": pwd.getpwuid(uid).pw_name, "group": grp.getgrgid(uid).gr_name}
    for content in ("old", "new"):
        run(entry(path, content, **names))
        assert (path.stat().st_uid, path.stat().st_gid) == (uid, uid)
        assert path.read_text() == content


def test_nothing_lands_when_one_of_them_is_wrong(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    second.write_text("old")
    with pytest.raises(FilesError, match=r"second would be wrong: check says no"):
        run(entry(first, "1"), entry(second, "wrong", validate="check"))
    assert not first.exists()
    assert second.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["second"]


def test_what_is_as_it_must_be_is_not_checked(tmp_path: Path) -> None:
    path = tmp_path / "a"
    run(entry(path, "wrong"))
    assert run(entry(path, "wrong", validate="check")) == ([], [])


def test_a_check_run_tells_and_changes_nothing(tmp_path: Path) -> None:
    """Neither needs it what the run before it makes: directories, programs that check, users."""
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.write_text("old")
    gone.write_text("old")
    paths, differing = run(
        entry(tmp_path / "new", state="directory"),
        entry(tmp_path / "new" / "file", "wrong", validate="check", owner="nobody-knows"),
        entry(there, "new"),
        entry(gone, state="absent"),
        changes=False,
    )
    assert paths == [str(tmp_path / name) for name in ("new", "new/file", "there", "gone")]
    assert len(differing) == 5, "there's mode differs too"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "there": "old",
        "gone": "old",
    }


def test_what_is_made_once_is_left_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "targets"
    assert run(entry(path, "none", state="once"))[0] == [str(path)]
    path.write_text("some")
    assert run(entry(path, "none", state="once")) == ([], [])
    path.chmod(0o600)
    run(entry(path, "none", state="once"))
    assert (path.read_text(), mode(path)) == ("some", 0o640)


def test_what_must_not_be_goes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    paths, [differing] = run(entry(path, state="absent"))
    assert paths == [str(path)]
    assert (differing["before"], differing["after"]) == ("file", "absent")
    assert run(entry(path, state="absent")) == ([], [])


def test_a_link_gives_way_to_the_file(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("theirs")
    link.symlink_to(target)
    assert run(entry(link, "ours"))[0] == [str(link)]
    assert (target.read_text(), link.read_text(), link.is_symlink()) == ("theirs", "ours", False)


def test_a_link_to_a_directory_is_a_directory(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.mkdir(mode=0o700)
    link.symlink_to(target)
    run(entry(link, state="directory", mode="0750"))
    assert link.is_symlink()
    assert mode(target) == 0o750


@pytest.mark.parametrize(("state", "make"), [("file", "mkdir"), ("directory", "touch")])
def test_files_and_directories_do_not_replace_each_other(
    tmp_path: Path, state: str, make: str
) -> None:
    path = tmp_path / "a"
    getattr(path, make)()
    with pytest.raises(FilesError, match=r"a is a (file|directory) already"):
        run(entry(path, state=state))


@pytest.mark.parametrize(
    "more", [{"owner": "nobody-knows"}, {"group": "nobody-knows"}, {"mode": "rw"}]
)
def test_rights_that_cannot_be_are_refused(tmp_path: Path, more: dict[str, str]) -> None:
    with pytest.raises(FilesError, match=f"^{tmp_path / 'a'}: "):
        run(entry(tmp_path / "a", **more))
    assert not list(tmp_path.iterdir())


def test_a_file_is_for_its_owner_only_until_it_has_its_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    chown = os.fchown

    def look(descriptor: int, owner: int, group: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        chown(descriptor, owner, group)

    monkeypatch.setattr(os, "fchown", look)
    run(entry(tmp_path / "secret", "password", mode="0644"))
    assert seen == [0o600]
