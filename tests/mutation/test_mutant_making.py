"""Which mutants are made of a piece of code."""

from __future__ import annotations

import ast

import pytest

from mutation.mutants import mutants


def changes(source: str) -> list[tuple[str, str]]:
    return [(mutant.before, mutant.after) for mutant in mutants(source)]


@pytest.mark.parametrize(
    ("source", "after"),
    [
        ("x = a < b", ["x = a <= b", "x = a >= b"]),
        ("x = a == b", ["x = a != b", "x = a <= b", "x = a >= b"]),
        ("x = a in b", ["x = a not in b"]),
        ("x = a < b < c", ["x = a <= b < c", "x = a >= b < c", "x = a < b <= c", "x = a < b >= c"]),
        ("x = a and b", ["x = a or b", "x = b", "x = a"]),
        ("x = not a", ["x = a"]),
        ("x = a // b", ["x = a * b"]),
        ("x += a", ["x -= a"]),
        ("x = True", ["x = False"]),
        ("x = 3", ["x = 4", "x = 2"]),
        ("x = all(a)", ["x = any(a)"]),
        ("check(a)", ["pass"]),
        ("x = [i for i in a if i]", ["x = [i for i in a if False]", "x = [i for i in a if True]"]),
    ],
)  # fmt: skip
def test_what_becomes_of_an_expression(source: str, after: list[str]) -> None:
    assert [changed for _, changed in changes(source)] == after


def test_a_condition_is_made_constant_and_changed_and_named_by_its_head() -> None:
    assert changes("if a > b:\n    raise Fault(f'{a} of {2}')\n") == [
        ("if a > b:", "if False:"),
        ("if a > b:", "if True:"),
        ("if a > b:", "if a >= b:"),
        ("if a > b:", "if a <= b:"),
    ]


def test_texts_types_and_imports_are_left_alone() -> None:
    assert changes('"""Doc 1."""\nfrom a import b\nShape = Box | Circle[int]\nx: Literal[1] | None = None\n') == []


def test_a_mutant_is_the_whole_module_with_one_change() -> None:
    source = "def one(a):\n    return a + 1\n\ndef two(a):\n    return a - 1\n"
    made = list(mutants(source))
    assert [(m.line, m.scope) for m in made] == [(2, "one")] * 3 + [(5, "two")] * 3
    assert made[0].source == ast.unparse(ast.parse(source.replace("a + 1", "a - 1")))
    assert made[-1].source == ast.unparse(ast.parse(source.replace("a - 1", "a - 0")))
