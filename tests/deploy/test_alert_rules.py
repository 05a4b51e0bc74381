"""The alert rules are sound, each fires and keeps silent as its tests say, and has a page that says what to do."""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path

import pytest
import yaml
from prometheus_rules import (
    PROMETHEUS,
    Rule,
    known_names,
    names_in,
    needs_promtool,
    read_rules,
    read_yaml,
    run_promtool,
)

RULES = read_rules()
ALERTS = [rule for rule in RULES if rule.alert]
ROOT = PROMETHEUS.parents[1]
CASES = {
    case["name"]: case for path in sorted((PROMETHEUS / "tests").glob("*.yml")) for case in read_yaml(path)["tests"]
}


def expected(case: str) -> set[str]:
    """Return the alerts that fire at the end of a case."""
    (look,) = CASES[case]["promql_expr_test"]
    assert look["expr"] == 'count by (alertname) (ALERTS{alertstate="firing"})'
    found = [re.fullmatch(r'\{alertname="(\w+)"\}', sample["labels"]) for sample in look["exp_samples"]]
    return {match[1] for match in found if match is not None}


@needs_promtool
def test_promtool_accepts_configuration_and_rules() -> None:
    # It reads the rules that the configuration names as well.
    done = run_promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"{len(list((PROMETHEUS / 'rules').glob('*.yml')))} rule files found" in done.stdout


@needs_promtool
@pytest.mark.parametrize("name", sorted(path.stem for path in (PROMETHEUS / "rules").glob("*.yml")))
def test_alerts_fire_and_keep_silent_as_their_cases_say(name: str) -> None:
    done = run_promtool("test", "rules", PROMETHEUS / "tests" / f"{name}.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("alert", [rule.alert for rule in RULES if rule.alert])
def test_the_cases_notice_an_alert_that_never_fires_and_one_that_always_does(alert: str, tmp_path: Path) -> None:
    shutil.copytree(PROMETHEUS, tmp_path, dirs_exist_ok=True)
    (path,) = (path for path in (tmp_path / "rules").glob("*.yml") if f"alert: {alert}\n" in path.read_text())
    sound = read_yaml(path)
    for wrong in ("vector(1) < 0", "vector(1)"):
        broken = copy.deepcopy(sound)
        (rule,) = (rule for group in broken["groups"] for rule in group["rules"] if rule.get("alert") == alert)
        rule["expr"] = wrong
        path.write_text(yaml.safe_dump(broken))
        done = run_promtool("test", "rules", tmp_path / "tests" / path.name)
        assert done.returncode == 1
        assert alert in done.stdout + done.stderr


@pytest.mark.parametrize("alert", [rule.alert for rule in ALERTS])
def test_each_alert_has_cases_in_which_it_alone_fires_and_in_which_none_does(alert: str) -> None:
    own = {case: expected(case) for case in CASES if case.startswith(f"{alert} ")}
    assert {alert} in own.values()
    assert set() in own.values()
    for case, fires in own.items():
        assert fires == ({alert} if case.startswith(f"{alert} fires ") else set()), case


def test_no_case_is_for_an_alert_that_is_not_there() -> None:
    assert {case.split()[0] for case in CASES} == {rule.alert for rule in ALERTS}


@pytest.mark.parametrize("rule", RULES, ids=[rule.alert or rule.record for rule in RULES])
def test_expressions_ask_for_metrics_of_the_catalogue(rule: Rule) -> None:
    asked = names_in(rule.expression)
    assert asked
    assert asked <= known_names(RULES)


def test_names_are_found_in_expressions() -> None:
    expression = (
        'sum by (job) (rate(a_total{b="c_total"}[5m])) / on (job) group_left (d) (e:f:g1h > 2e9 or h offset 1h * 0)'
    )
    assert names_in(expression) == {"a_total", "e:f:g1h", "h"}


@pytest.mark.parametrize("rule", ALERTS, ids=[rule.alert for rule in ALERTS])
def test_each_alert_says_what_to_do(rule: Rule) -> None:
    assert set(rule.annotations) == {"summary", "description", "runbook_url"}
    assert "Next step: " in rule.annotations["description"]
    assert rule.labels["severity"] in {"critical", "warning"}
    assert rule.annotations["runbook_url"] == f"docs/runbooks/{rule.alert}.md"


@pytest.mark.parametrize("rule", ALERTS, ids=[rule.alert for rule in ALERTS])
def test_each_alert_has_a_runbook_with_something_to_look_at_and_to_do(rule: Rule) -> None:
    page = (ROOT / rule.annotations["runbook_url"]).read_text(encoding="utf-8")
    parts = re.split(r"^#+ (.+)$", page, flags=re.MULTILINE)[1:]
    assert parts[::2] == [rule.alert, "What it means", "What to look at", "What to do"]
    assert all(text.strip() for text in parts[3::2])
    assert "`" in parts[5]


def test_runbooks_and_table_are_of_the_alerts_that_there_are() -> None:
    names = {rule.alert for rule in ALERTS}
    assert {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")} == names
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[`(\w+)`\]\(runbooks/\1\.md\) \| .+ \| (\w+) \|$", page, re.MULTILINE)
    assert sorted(listed) == sorted((rule.alert, rule.labels["severity"]) for rule in ALERTS)


@needs_promtool
@pytest.mark.parametrize("rule", ALERTS, ids=[rule.alert for rule in ALERTS])
def test_queries_in_runbooks_ask_for_metrics_of_the_catalogue(rule: Rule) -> None:
    page = (ROOT / rule.annotations["runbook_url"]).read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:ravan_[a-z_]+|process_[a-z_]+)\b", page)) - {"process_id"}
    known = known_names(RULES)
    families = {name.removesuffix(suffix) for name in known for suffix in ("_bucket", "_count", "_gcount")}
    assert named <= known | families
