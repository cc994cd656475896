# SPDX-License-Identifier: GPL-3.0-or-later
"""Which branches of plugins' functions that only think are not reached by their unit tests.

A function thinks only when it gets nothing but data, and neither itself nor a function that it
uses reaches outside: to files, hosts, processes, the clock. So does every function called plan.
Those that act are thin by the rules of the house, and run in the lab. What a function is, is read
from its text: a new one counts at once.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any, Final

import coverage

PACKAGE: Final = "ansible_collections.pgherd.cluster.plugins."
# Names by which a function reaches outside, and the types of what it would do that with.
OUTSIDE: Final = frozenset(
    ["ActionBase", "Agents", "AnsibleModule", "BaseInventoryPlugin", "Cacheable", "Constructable",
     "Display", "EtcdClient", "EtcdStore", "HTTPError", "HTTPResponse", "LookupBase", "Path",
     "SSLContext", "ThreadPoolExecutor", "get_context", "grp", "http", "open", "os", "platform",
     "psycopg", "pwd", "request", "secrets", "select", "shutil", "socket", "ssl", "subprocess",
     "tempfile", "time", "urllib"]
)  # fmt: skip
# The file (with dots, below plugins) and the name of a function.
Key = tuple[str, str]


def names_in(node: ast.AST) -> set[str]:
    """Return the names that *node* uses, those in quoted annotations included."""
    found = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    quoted = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)}
    return found | {text for text in quoted if isinstance(text, str) and text in OUTSIDE}


def functions(tree: ast.Module) -> dict[str, set[str]]:
    """Return the functions of a file by the names that coverage gives them, with what each uses.

    A class stands and falls as one: its methods use what any of them does.
    """
    found: dict[str, set[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = names_in(node)
        if isinstance(node, ast.ClassDef):
            methods = (each.name for each in node.body if isinstance(each, ast.FunctionDef))
            found |= {f"{node.name}.{method}": found[node.name] for method in methods}
    return found


def imports(tree: ast.Module) -> dict[str, Key]:
    """Return what a file takes from the collection's other files: by its name, whose and what."""
    return {
        alias.asname or alias.name: (node.module.removeprefix(PACKAGE), alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(PACKAGE)
        for alias in node.names
    }


def thinking(plugins: Path) -> set[Key]:
    """Return the functions below *plugins* that only think."""
    uses: dict[Key, set[Key]] = {}
    acting: set[Key] = set()
    for path in sorted(plugins.glob("*/*.py")):
        file = ".".join(path.relative_to(plugins).with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        taken = imports(tree)
        for name, used in functions(tree).items():
            uses[file, name] = {taken.get(each, (file, each)) for each in used}
            if used & OUTSIDE:
                acting.add((file, name))
    plans = {key for key in uses if key[1].startswith("plan")}
    acting -= plans
    while more := {key for key, used in uses.items() if used & acting} - acting - plans:
        acting |= more
    return set(uses) - acting


def lacking(files: dict[str, Any], plugins: Path) -> list[str]:
    """Return a sentence for each function below *plugins* that only thinks and is reached in part.

    files: those of coverage's report in JSON, by paths that end in KIND/FILE. A class has no
    entry of its own there, only its methods have.
    """
    reached = {
        (".".join(Path(path).with_suffix("").parts[-2:]), name): seen
        for path, file in files.items()
        for name, seen in file["functions"].items()
    }
    problems = []
    for file, name in sorted(thinking(plugins) & set(reached)):
        seen = reached[file, name]
        lines = {*seen["missing_lines"], *(line for line, _to in seen["missing_branches"])}
        if lines:
            place = ", ".join(map(str, sorted(lines)))
            problems.append(
                f"plugins/{file.replace('.', '/')}.py: {name} is not reached at {place}"
            )
    return problems


def uncovered(collection: Path) -> list[str]:
    """Return what `lacking` finds; *collection* is where unit tests ran, by tests/unit/conftest.py.

    Raises coverage's CoverageException when none ran there.
    """
    output = collection / "tests" / "output"
    watched = coverage.Coverage(data_file=str(output / "plugins.coverage"), branch=True)
    watched.combine(keep=True)
    watched.json_report(outfile=str(output / "plugins.json"))
    report = json.loads((output / "plugins.json").read_text(encoding="utf-8"))
    return lacking(report["files"], collection / "plugins")
