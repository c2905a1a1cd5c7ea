"""Who may import whom: leaf ← domain ← edge ← app ← wsgi, and edges never each other."""

from __future__ import annotations

import ast
import sys

import pytest

from settings import PROJECT_DIR

LEAVES = {"settings", "errors", "classify", "countries", "signatures"}
ROOTS = {
    "app",
    "worker",
    "wsgi",
    "first_start",
    "server",
    "cli",
    "gunicorn.conf",
    "bench",
    "bench_statistics",
}
MODULES = sorted(path.stem for path in PROJECT_DIR.glob("*.py"))
EDGES = {name for name in MODULES if name.startswith(("api_", "collect", "dashboard"))}


def imports_of(module: str) -> set[str]:
    tree = ast.parse((PROJECT_DIR / f"{module}.py").read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_what_stands_below_it(module: str) -> None:
    imported = imports_of(module) & set(MODULES)
    if module in LEAVES:
        assert imported <= LEAVES
    elif module not in ROOTS:
        assert not imported & ROOTS
        assert not imported & EDGES


def test_no_module_imports_itself_by_way_of_others() -> None:
    waiting = {module: imports_of(module) & set(MODULES) for module in MODULES}
    while waiting:
        free = [module for module, imported in waiting.items() if not imported & set(waiting)]
        assert free, f"a circle among {sorted(waiting)}"
        for module in free:
            del waiting[module]


def test_schemas_and_classify_know_no_database() -> None:
    for module in ("schemas", "classify", "countries", "settings"):
        assert not imports_of(module) & {"database", "models", "sqlalchemy", "flask_sqlalchemy"}


def test_the_environment_is_read_where_the_program_starts_and_nowhere_else() -> None:
    for module in set(MODULES) - (ROOTS - {"app", "worker", "gunicorn.conf"}):
        source = (PROJECT_DIR / f"{module}.py").read_text()
        assert "os.environ" not in source, module
        assert "getenv" not in source, module


def test_every_module_opens_with_its_job() -> None:
    for module in MODULES:
        tree = ast.parse((PROJECT_DIR / f"{module}.py").read_text())
        assert ast.get_docstring(tree), module


def test_map_names_every_module() -> None:
    mapped = (PROJECT_DIR / "docs" / "architecture.md").read_text()
    for module in MODULES:
        assert f"`{module}`" in mapped, module


def test_third_party_imports_are_required() -> None:
    required = {
        name: (PROJECT_DIR / f"{name}.txt").read_text().lower().replace("-", "_")
        for name in ("requirements", "requirements-dev")
    }
    distributions = {"crawleruseragents": "crawler_user_agents"}
    known = {*MODULES, *sys.stdlib_module_names, "_typeshed"}
    for module in MODULES:
        # The benchmarks alone may use what the tests use.
        allowed = required["requirements"] + required["requirements-dev"] * (module == "bench")
        for name in imports_of(module) - known:
            assert distributions.get(name, name) in allowed, f"{module} imports {name}"
