"""Whatever a page calls by name in the code is there: folders, files, functions, other pages and their headings."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from command_trees import find_command
from pages import DOCS, ROOT, anchors_in, read_codes

PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
FOLDERS = ("ravan", "coordinator", "edge_agent", "deploy", "proto", "tests", "docs")


def members_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def defined_in(node: ast.Module | ast.ClassDef) -> dict[str, ast.AST]:
    names: dict[str, ast.AST] = {}
    for each in node.body:
        match each:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names[each.name] = each
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                names[name] = each
    return names


def exists_in_code(dotted: str) -> bool:
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        stem = ROOT.joinpath(*parts[:end])
        module = stem.with_suffix(".py") if stem.with_suffix(".py").is_file() else stem / "__init__.py"
        if not module.is_file():
            continue
        node: ast.AST | None = members_of(module)
        for name in parts[end:]:
            node = defined_in(node).get(name) if isinstance(node, ast.Module | ast.ClassDef) else None
        return node is not None
    return False


@pytest.mark.parametrize("page", PAGES)
def test_paths_on_the_page_exist(page: str) -> None:
    codes = read_codes((DOCS / page).read_text(encoding="utf-8"))
    paths = {code for code in codes if re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w/.\-]*", code)}
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_dotted_names_on_the_page_exist(page: str) -> None:
    codes = read_codes((DOCS / page).read_text(encoding="utf-8"))
    names = {code for code in codes if re.fullmatch(r"(ravan|coordinator|edge_agent)(\.\w+)+", code)}
    names -= {code for code in names if code.endswith((".toml", ".db"))}
    assert [name for name in sorted(names) if not exists_in_code(name)] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_on_the_page_lead_somewhere(page: str) -> None:
    here = DOCS / page
    for target in re.findall(r"\]\(([^)\s]+)\)", here.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        there = (here.parent / path).resolve() if path else here
        assert there.exists(), target
        assert not anchor or anchor in anchors_in(there), target


@pytest.mark.parametrize("page", PAGES)
def test_commands_on_the_page_exist(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    lines = sorted(read_codes(text)) + text.splitlines()
    unknown = [line for line in lines if line.startswith("ravan-") and not is_command(line.split("#")[0])]
    assert unknown == []


def is_command(line: str) -> bool:
    program, *words = line.split()
    found = find_command(program, words)
    if found is None:
        return False
    command, left = found
    options = {option for parameter in command.params for option in parameter.opts}
    return {word for word in left if word.startswith("--")} <= options


def test_the_check_of_commands_notices_what_is_not_there() -> None:
    assert is_command("ravan-agent run --config FILE")
    assert not is_command("ravan-agent run --plain")
    assert not is_command("ravan-coordinator job explain")


def test_the_check_of_names_notices_what_is_not_there() -> None:
    assert exists_in_code("ravan.secagg.agent.AgentRound.reveal")
    assert not exists_in_code("ravan.secagg.agent.AgentRound.forget")
    assert not exists_in_code("ravan.secagg.agents")
