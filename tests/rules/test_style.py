"""Sizes that keep a module readable, and the shape of tests/."""

from __future__ import annotations

import ast

import pytest

from tests.rules.source import ROOT, Module, modules

MODULE_MAX_LINES = 400
FUNCTION_MAX_LINES = 60


@pytest.mark.parametrize("module", modules(), ids=lambda m: m.name)
def test_a_module_is_one_module(module: Module) -> None:
    assert len(module.path.read_text().splitlines()) <= MODULE_MAX_LINES


@pytest.mark.parametrize("module", modules(), ids=lambda m: m.name)
def test_functions_are_short(module: Module) -> None:
    long = [
        f"{node.name} at line {node.lineno}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno + 1 > FUNCTION_MAX_LINES
    ]
    assert long == []


@pytest.mark.parametrize("module", modules(), ids=lambda m: m.name)
def test_a_module_says_what_it_is(module: Module) -> None:
    if module.path.name == "__init__.py" and not module.path.read_text().strip():
        return
    if module.name in {"shardctl"}:
        return
    assert ast.get_docstring(module.tree), f"{module.name} has no docstring"


def test_tests_have_no_package_files() -> None:
    """A tests/broker/__init__.py alone would hide the source package `broker`."""
    assert sorted((ROOT / "tests").rglob("__init__.py")) == []
