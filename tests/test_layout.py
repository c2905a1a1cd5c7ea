"""The house: which rooms there are, who may import whom, and what every file opens with."""

from __future__ import annotations

import ast
import functools
import re
import sys
from pathlib import Path

import pytest

from core.settings import PROJECT_DIR

# A room imports only rooms of lower floors: web → people → pixels → …; rooms of one floor don't
# import each other.
FLOORS = (
    {"core"},
    {"models", "schemas"},
    {"auth", "hits"},
    {"stats"},
    {"pixels"},
    {"people", "upkeep"},
    {"web"},
    {"app"},
    {"wsgi"},
    {"server"},
    {"cli", "gunicorn.conf"},
    {"bench"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
TOP_FILES = {"app", "auth", "gunicorn.conf", "models", "schemas", "wsgi"}
READS_ENVIRONMENT = {"wsgi", "server.start", "server.prepare", "cli.run", "cli.upkeep"}
# A condition or a statement, whatever it is of.
SQL = re.compile(r"\b(ColumnElement|Select)\b")
OUTSIDE = {"tests", "migrations", "node_modules", "examples"}


def is_ours(path: Path) -> bool:
    first = path.relative_to(PROJECT_DIR).parts[0]
    return first not in OUTSIDE and not first.startswith(".") and first != "instance"


def name_of(path: Path) -> str:
    parts = path.relative_to(PROJECT_DIR).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


FILES = {name_of(path): path for path in sorted(PROJECT_DIR.rglob("*.py")) if is_ours(path)}


@functools.cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text())


def room_of(module: str) -> str:
    return module if module in TOP_FILES else module.partition(".")[0]


def imports_of(module: str, known: set[str] | None = None) -> set[str]:
    """Return what a module imports, wherever in it, but for type checkers."""
    known = set(FILES) if known is None else known
    tree = tree_of(module)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by dots"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in known else str(node.module))
    return found


def test_there_is_a_house_to_look_at() -> None:
    rooms = {room_of(module) for module in FILES}
    assert rooms == set(FLOOR_OF)
    assert len(FILES) > 80
    # Imports are found: a reader of them that sees none would pass all that follows.
    assert "hits.recorder" in imports_of("app")
    assert "core.errors" in imports_of("web.errors")


def test_the_top_holds_what_the_design_card_names() -> None:
    assert {path.stem for path in PROJECT_DIR.glob("*.py")} == TOP_FILES


@pytest.mark.parametrize("module", sorted(FILES))
def test_a_room_imports_only_rooms_below_it(module: str) -> None:
    room = room_of(module)
    for imported in imports_of(module) & set(FILES):
        other = room_of(imported)
        assert other == room or FLOOR_OF[other] < FLOOR_OF[room], f"{module} imports {imported}"


def test_no_file_imports_itself_by_way_of_others() -> None:
    waiting = {module: imports_of(module) & set(FILES) for module in FILES}
    while waiting:
        free = [module for module, imported in waiting.items() if not imported & set(waiting)]
        assert free, f"a circle among {sorted(waiting)}"
        for module in free:
            del waiting[module]


def test_the_two_edges_never_import_each_other() -> None:
    for module in FILES:
        for edge, other in (("web.api", "web.pages"), ("web.pages", "web.api")):
            if module.startswith(edge):
                assert not {
                    imported for imported in imports_of(module) if imported.startswith(other)
                }, module


def test_the_domain_is_asked_by_typed_arguments_and_not_by_requests() -> None:
    # A share's parameters and a message's data are kept and sent as they are.
    kept_whole = {"parameters", "data"}
    # What the domain asks of itself, inside its own statements.
    inside = {"raise_people_version"}
    asked = []
    for module in FILES:
        if room_of(module) not in {"pixels", "people"}:
            continue
        for node in ast.walk(tree_of(module)):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                asked.append(node.name)
                for argument in (*node.args.args, *node.args.kwonlyargs):
                    if argument.annotation and ast.unparse(argument.annotation).startswith(
                        "dict[str, "
                    ):
                        assert argument.arg in kept_whole, f"{module}.{node.name}: {argument.arg}"
                    if argument.annotation and SQL.search(ast.unparse(argument.annotation)):
                        assert node.name in inside, f"{module}.{node.name}: {argument.arg}"
    assert {"create", "listing", "change_user", "teams_of", *inside} <= set(asked)
    for module, path in FILES.items():
        if room_of(module) not in {"pixels", "people"}:
            assert not [name for name in inside if name in path.read_text()], module


@pytest.mark.parametrize("module", sorted(module for module in FILES if room_of(module) == "web"))
def test_the_web_builds_no_statements(module: str) -> None:
    # It turns the database's errors into answers, and tells whether it is there.
    errors = {"sqlalchemy.exc", "sqlalchemy.orm.exc"}
    assert not {
        imported for imported in imports_of(module) - errors if imported.startswith("sqlalchemy")
    }, module
    if module not in {"web.errors", "web.api.service"}:
        assert "core.database" not in imports_of(module), module


def test_the_command_line_asks_the_database_by_way_of_the_rooms_below() -> None:
    commands = [module for module in FILES if room_of(module) == "cli"]
    assert len(commands) > 10
    for module in commands:
        asked = {imported for imported in imports_of(module) if imported.startswith("sqlalchemy")}
        assert asked <= {"sqlalchemy.exc"}, module
        assert ".session" not in FILES[module].read_text(), module


@pytest.mark.parametrize(
    "module",
    [
        "schemas",
        "core.lists",
        "hits.classify",
        "hits.user_agents",
        "hits.countries",
        "core.settings",
    ],
)
def test_what_is_pure_knows_no_database(module: str) -> None:
    assert not imports_of(module) & {"core.database", "models", "sqlalchemy", "flask_sqlalchemy"}


def test_the_arithmetic_knows_numpy_and_its_arrays_only() -> None:
    ours = imports_of("stats.arithmetic") & set(FILES)
    assert ours == {"stats.days"}
    assert not imports_of("stats.days") & set(FILES)


def test_the_environment_is_read_where_the_program_starts_and_nowhere_else() -> None:
    for module, path in FILES.items():
        if module not in READS_ENVIRONMENT and room_of(module) != "bench":
            source = path.read_text()
            assert "os.environ" not in source, module
            assert "getenv" not in source, module


@pytest.mark.parametrize("module", sorted(FILES))
def test_every_file_opens_with_its_job(module: str) -> None:
    assert ast.get_docstring(tree_of(module))


def test_a_package_says_its_job_and_nothing_else() -> None:
    for module, path in FILES.items():
        if path.name == "__init__.py":
            assert len(tree_of(module).body) == 1, module


def test_tests_mirror_the_house() -> None:
    rooms = {path.parent.relative_to(PROJECT_DIR / "tests") for path in TESTS}
    for room in rooms - {Path()}:
        assert (PROJECT_DIR / room).is_dir(), room


TESTS = sorted((PROJECT_DIR / "tests").rglob("test_*.py"))


def test_third_party_imports_are_required() -> None:
    required = {
        name: (PROJECT_DIR / f"{name}.txt").read_text().lower().replace("-", "_")
        for name in ("requirements", "requirements-dev")
    }
    known = {*(room_of(module) for module in FILES), *sys.stdlib_module_names, "_typeshed"}
    for module in FILES:
        # The benchmarks may use what the tests use.
        allowed = required["requirements"]
        allowed += required["requirements-dev"] * (room_of(module) == "bench")
        for name in {imported.partition(".")[0] for imported in imports_of(module)} - known:
            assert name in allowed, f"{module} imports {name}"


DOCUMENTS = ("architecture", "durability", "privacy")
# `leaf.name` or `leaf.Class.name` of our own files, and `test_file.test_name`.
POINTER = re.compile(r"`([a-z_]+)\.([A-Za-z_]+(?:\.[A-Za-z_]+)?)`")
TEST_POINTER = re.compile(r"`(?:…)?(test_[a-z_]+)\.(?:…)?(test_[a-z_]+)…?`")


def names_in(tree: ast.AST, prefix: str = "") -> set[str]:
    """Return what is defined in a file: functions, classes, their methods, constants."""
    found = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                found |= names_in(node, f"{node.name}.")
        elif isinstance(node, ast.Assign):
            found |= {prefix + target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_point_to_lines_that_are_there(document: str) -> None:
    text = (PROJECT_DIR / "docs" / f"{document}.md").read_text()
    by_leaf: dict[str, set[str]] = {}
    for module in FILES:
        by_leaf.setdefault(module.rpartition(".")[2], set()).update(names_in(tree_of(module)))
    leaves = set(by_leaf) - {"pixelkeep"}
    pointers = [found for found in POINTER.findall(text) if found[0] in leaves and found[1] != "py"]
    assert pointers
    rooms = {room_of(module) for module in FILES}
    for leaf, name in pointers:
        known = by_leaf[leaf] | {defined.split(".")[-1] for defined in by_leaf[leaf]}
        is_file = leaf in rooms and f"{leaf}.{name}" in FILES
        assert name in known or is_file, f"docs/{document}.md: {leaf}.{name}"
    tests = {path.stem: path.read_text() for path in TESTS}
    for file, name in TEST_POINTER.findall(text):
        assert f"def {name}" in tests.get(file, ""), f"docs/{document}.md: {file}.{name}"


def test_no_document_holds_both_sides_of_a_merge() -> None:
    documents = [*PROJECT_DIR.glob("*.md"), *(PROJECT_DIR / "docs").glob("*.md")]
    assert len(documents) > 10
    for document in documents:
        for line in document.read_text().splitlines():
            assert not line.startswith(("<<<<<<< ", ">>>>>>> ")), document.name
