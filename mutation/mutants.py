"""All small changes to one module: comparisons, conditions, calls that only check, operators and numbers. Pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq, ast.LtE, ast.GtE),
    ast.NotEq: (ast.Eq, ast.Lt, ast.Gt),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}

_OPERATORS: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}

_FUNCTIONS: Final = {"any": "all", "all": "any", "min": "max", "max": "min"}

_Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One changed module."""

    line: int
    scope: str
    """Dotted name of the function or class; empty for the module itself."""
    before: str
    """The statement, or the head of a compound one, on one line."""
    after: str
    source: str
    """The whole module with the change."""


def mutants(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module, in the order of the source."""
    tree = ast.parse(source)
    for scope, statement in _statements(tree, ""):
        for node in _own_nodes(statement):
            for old, new in _changes(node):
                before = _head(statement)
                _Swap(old, new).visit(tree)
                after = _head(new if isinstance(new, ast.stmt) else statement)
                text = ast.unparse(tree)
                _Swap(new, old).visit(tree)
                yield Mutant(line=statement.lineno, scope=scope, before=before, after=after, source=text)


_NOTHING: Final = ast.Pass()


class _Swap(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self._new if node is self._old else super().generic_visit(node)


def _statements(parent: ast.AST, scope: str) -> Iterator[tuple[str, ast.stmt]]:
    """Yield every statement but docstrings and imports, with the scope that it stands in."""
    for child in ast.iter_child_nodes(parent):
        if isinstance(child, ast.stmt) and not _is_passed_over(child):
            yield scope, child
        inner = f"{scope}.{child.name}".lstrip(".") if isinstance(child, _Scope) else scope
        yield from _statements(child, inner)


def _is_passed_over(statement: ast.stmt) -> bool:
    is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return is_text or isinstance(statement, ast.Import | ast.ImportFrom | _Scope)


def _own_nodes(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield the statement and the expressions in it that are its own: no inner statements, annotations or texts."""
    yield statement
    skipped = {id(statement.annotation)} if isinstance(statement, ast.AnnAssign) else set()
    waiting = [child for child in ast.iter_child_nodes(statement) if id(child) not in skipped]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.stmt | ast.match_case | ast.ExceptHandler | ast.JoinedStr):
            continue
        yield node
        waiting = [*ast.iter_child_nodes(node), *waiting]


def _changes(node: ast.AST) -> list[tuple[ast.AST, ast.AST]]:
    """Return what to put in the place of what."""
    if isinstance(node, ast.If | ast.IfExp | ast.comprehension):
        tests = node.ifs if isinstance(node, ast.comprehension) else [node.test]
        return [(test, ast.Constant(value)) for test in tests for value in (False, True)]
    return [(node, new) for new in _variants(node)]


def _variants(node: ast.AST) -> Sequence[ast.AST]:  # noqa: C901, PLR0911 - one line a kind
    match node:
        case ast.Compare(left=left, ops=[operator], comparators=right):
            return [ast.Compare(left, [other()], right) for other in _COMPARISONS[type(operator)]]
        case ast.Compare(left=left, ops=[one, two], comparators=right):
            first = [ast.Compare(left, [other(), two], right) for other in _COMPARISONS[type(one)]]
            return first + [ast.Compare(left, [one, other()], right) for other in _COMPARISONS[type(two)]]
        case ast.BoolOp(op=operator, values=values):
            turned = ast.Or() if isinstance(operator, ast.And) else ast.And()
            return [ast.BoolOp(turned, values), *(_without(node, i) for i in range(len(values)))]
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            return [operand]
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS and not _is_type(left):
            return [ast.BinOp(left, _OPERATORS[type(operator)](), right)]
        case ast.AugAssign(target=target, op=operator, value=value) if type(operator) in _OPERATORS:
            return [ast.AugAssign(target, _OPERATORS[type(operator)](), value)]
        case ast.Constant(value=bool(value)):
            return [ast.Constant(not value)]
        case ast.Constant(value=int(value)):
            return [ast.Constant(value + 1), ast.Constant(value - 1)]
        case ast.Name(id=name) if name in _FUNCTIONS:
            return [ast.Name(_FUNCTIONS[name])]
        case ast.Expr(value=ast.Call()):
            return [_NOTHING]
        case _:
            return []


def _is_type(node: ast.expr) -> bool:
    """Tell types apart, which are joined by an operator as well: `SealedShares | Abort`."""
    name = node.value if isinstance(node, ast.Subscript) else node.left if isinstance(node, ast.BinOp) else node
    return isinstance(name, ast.Name) and (name.id.lstrip("_")[:1].isupper() and not name.id.isupper())


def _without(node: ast.BoolOp, position: int) -> ast.expr:
    rest = [value for i, value in enumerate(node.values) if i != position]
    return rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)


def _head(statement: ast.stmt) -> str:
    return ast.unparse(statement).splitlines()[0]
