"""The import contract, and what our packages never call. Both are read from the syntax tree: nothing is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "replay": {"replay"},
    "learners": {"learners", "replay"},
    "actors": {"actors", "learners", "replay"},
    "distwm": {"distwm", "actors", "learners", "replay"},
}
FILES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))
TREES = {path: ast.parse(path.read_text(), str(path)) for path in FILES}
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}

FORBIDDEN_MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "input"}

# What concerns a whole server, or other people's keys on it.
FORBIDDEN_COMMANDS = {
    *(
        "FLUSHALL",
        "FLUSHDB",
        "SWAPDB",
        "CONFIG",
        "DEBUG",
        "SHUTDOWN",
        "KEYS",
        "SCAN",
        "RANDOMKEY",
        "RENAME",
        "RENAMENX",
    ),
    *("MONITOR", "REPLICAOF", "SLAVEOF", "FAILOVER", "ACL", "CLIENT", "MODULE", "FUNCTION", "EVAL", "SAVE", "MIGRATE"),
}
CLIENTS = {"r", "pipe", "client", "self._client"}  # what a client of Redis is called here
SCRIPTED = re.compile(r"redis\.p?call\(\s*['\"](\w+)")  # the commands of a Lua text
USERS = ROOT / "deploy" / "redis" / "users.acl"


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module, and every name that may be one, that is imported anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(name: str) -> str | None:
    """The file of ours that an imported name lives in."""
    return name if name in MODULES else (name.rpartition(".")[0] if name.rpartition(".")[0] in MODULES else None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    for name in imported(TREES[path]):
        top = name.split(".")[0]
        assert top not in MAY_IMPORT or top in MAY_IMPORT[package], f"{package} must not import {name}"
        assert package != "replay" or top != "torch", "replay never imports torch"


def test_no_circle_of_files() -> None:
    """Imports inside functions count: they hide a circle, they do not undo it."""
    graph = {
        name: {found for target in imported(TREES[path]) if (found := module_of(target)) and found != name}
        for name, path in MODULES.items()
    }
    while leaves := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in leaves}
    assert not graph, f"these files import one another: {sorted(graph)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_runs_what_it_reads(path: Path) -> None:
    tree = TREES[path]
    for name in imported(tree):
        assert name.split(".")[0] not in FORBIDDEN_MODULES, f"{name} runs code that comes with the data"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            assert not forbidden(node), f"line {node.lineno}: {ast.unparse(node)}"


def forbidden(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    keywords = {k.arg: ast.unparse(k.value) for k in call.keywords}
    return (
        name in FORBIDDEN_CALLS
        or (name == "torch.load" and keywords.get("weights_only") != "True")
        or keywords.get("allow_pickle", "False") != "False"
    )


def commands(tree: ast.AST) -> Iterator[str]:
    """The Redis commands that a file may send: methods that a client has of that name, words, and what scripts call."""
    talks = any(name.split(".")[0] == "redis" for name in imported(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from SCRIPTED.findall(node.value)
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        name, _, more = node.func.attr.partition("_")
        if node.func.attr == "execute_command" and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value).split()[0].upper()
        elif ast.unparse(node.func.value) in CLIENTS or (talks and (more or node.args) and name != "debug"):
            yield name.upper()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_command_that_concerns_a_whole_server(path: Path) -> None:
    assert not set(commands(TREES[path])) & FORBIDDEN_COMMANDS


def test_replay_alone_speaks_to_redis() -> None:
    speaking = {path.relative_to(ROOT).parts[0] for path in FILES if "redis" in set(imported(TREES[path]))}
    assert speaking == {"replay"}


def test_users_may_do_what_scripts_do() -> None:
    strings = (node.value for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.Constant))
    called = {name.lower() for text in strings if isinstance(text, str) for name in SCRIPTED.findall(text)}
    allowed = {word[1:] for word in USERS.read_text().split() if word.startswith("+")}
    assert {"xadd", "set"} <= called <= allowed
    assert not {name.upper() for name in allowed} & FORBIDDEN_COMMANDS


@pytest.mark.parametrize("path", sorted((ROOT / "deploy").rglob("*")), ids=lambda path: path.name)
def test_deployments_hold_no_password_and_open_no_door(path: Path) -> None:
    text = path.read_text() if path.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if not line.strip().startswith(("#", "//"))]
    for line in lines:
        assert not re.match(r"(requirepass|masterauth|user .*[ >]>|protected-mode no|bind .*(0\.0\.0\.0|\*))", line), (
            line
        )


@pytest.mark.parametrize(
    "lines",
    [
        "r.flushall()",
        "import redis\nx.config_set('a', 1)",
        "import redis\nr.keys('*')",
        "x = \"redis.call('KEYS', '*')\"",
        "r.execute_command('DEBUG SLEEP', 1)",
    ],
)
def test_the_check_of_commands(lines: str) -> None:
    assert set(commands(ast.parse(lines))) & FORBIDDEN_COMMANDS


@pytest.mark.parametrize(
    "line",
    ["eval(x)", "yaml.load(f)", "torch.load(f)", "torch.load(f, weights_only=False)", "np.load(f, allow_pickle=True)"],
)
def test_the_check_itself(line: str) -> None:
    call = ast.parse(line).body[0].value  # type: ignore[attr-defined]
    assert forbidden(call)


def test_files_and_functions_are_short() -> None:
    for path, tree in TREES.items():
        assert len(path.read_text().splitlines()) <= 400, f"{path} is more than one idea"
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path}:{node.lineno} {node.name} is too long"
