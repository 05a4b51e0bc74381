"""The tables of the mutation runs fit the tree: checks, tests and excused mutants are where they say."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from mutation.checks import CHECKS, Check
from mutation.equivalents import Equivalent, read_equivalents
from mutation.mutants import mutants
from mutation.removal import without
from mutation.secagg import FIRST, PACKAGE, modules
from mutation.workbench import ROOT


@cache
def functions(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.attack)
def test_each_check_stands_once_where_it_is_said_to_and_leaves_valid_code(check: Check) -> None:
    compile(without(check), check.file, "exec")
    path, _, name = check.test.partition("::")
    assert name in functions(path)


def test_no_attack_is_listed_twice() -> None:
    attacks = [check.attack for check in CHECKS]
    assert sorted(set(attacks)) == sorted(attacks)


@pytest.mark.parametrize("each", read_equivalents(), ids=lambda each: f"{each.module}:{each.before}")
def test_each_excused_mutant_can_still_be_made(each: Equivalent) -> None:
    source = (ROOT / PACKAGE / f"{each.module}.py").read_text(encoding="utf-8")
    made = {mutant.after for mutant in mutants(source) if (mutant.scope, mutant.before) == (each.scope, each.before)}
    assert made.issuperset(each.after)


def test_every_module_has_tests_of_its_own() -> None:
    assert set(FIRST) <= set(modules())
    for tests in FIRST.values():
        assert all((ROOT / "tests/ravan/secagg" / f"{name}.py").is_file() for name in tests)
