"""The size budget: functions of at most 70 lines, modules of at most 600 (tests: 1,000), migrations apart."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = {".venv", "var", "migrations", ".git", "node_modules"}


def sources() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*.py")):
        if not SKIPPED & set(path.relative_to(ROOT).parts):
            yield path


def test_no_module_outgrows_its_budget() -> None:
    too_long = [
        f"{path.relative_to(ROOT)}: {lines}"
        for path in sources()
        if (lines := path.read_text(encoding="utf-8").count("\n")) > (1000 if "tests" in path.parts else 600)
    ]
    assert not too_long


def test_no_function_outgrows_its_budget() -> None:
    too_long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > 70
    ]
    assert not too_long


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path.read_text(encoding="utf-8").strip()
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not [name for name in silent if name not in ("manage.py",)]
