"""What the chart makes of its example values: valid for Kubernetes, whole in itself, and locked down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from helm_chart import NAMESPACE, ROOT, VALUES, Rendered, lint, needs_helm, rendered, values_of
from prometheus_rules import needs_promtool, run_promtool

from coordinator.config import load_config
from coordinator.storage import records_place
from ravan.errors import ConfigError

pytestmark = needs_helm

OF_OPERATOR = {"ServiceMonitor", "PrometheusRule"}
"""Kinds that the Prometheus Operator brings: no schema of Kubernetes has them."""
EVERY_CASE = pytest.mark.parametrize("name", VALUES)


def test_the_cases_cover_every_template() -> None:
    kinds = {each["kind"] for name in VALUES for each in rendered(name).manifests}
    assert kinds == {
        *("ConfigMap", "Deployment", "NetworkPolicy", "PersistentVolumeClaim"),
        *("PodDisruptionBudget", "Service", "StatefulSet", *OF_OPERATOR),
    }


@EVERY_CASE
def test_kubernetes_would_take_it(name: str) -> None:
    newest = kubernetes_validate.latest_version()
    for manifest in rendered(name).manifests:
        if manifest["kind"] not in OF_OPERATOR:
            kubernetes_validate.validate(manifest, newest, strict=True)


def test_what_kubernetes_would_not_take_is_noticed() -> None:
    broken = yaml.safe_load(yaml.safe_dump(rendered("sqlite").only("StatefulSet")))
    broken["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


@EVERY_CASE
def test_helm_lints_it_without_a_remark(name: str) -> None:
    assert lint(values_of(name)) == []


@EVERY_CASE
def test_no_two_things_of_one_kind_share_a_name(name: str) -> None:
    known = [(each["kind"], each["metadata"]["name"]) for each in rendered(name).manifests]
    assert len(known) == len(set(known))


def selectors_in(chart: Rendered) -> Iterator[tuple[str, dict[str, str]]]:
    """Each selector of pods, with whose it is."""
    for each in chart.manifests:
        spec = each.get("spec", {})
        found = spec.get("podSelector") or spec.get("selector") if each["kind"] != "ServiceMonitor" else None
        if found:
            yield f"{each['kind']} {each['metadata']['name']}", found.get("matchLabels", found)


@EVERY_CASE
def test_selectors_find_the_pods_that_they_mean(name: str) -> None:
    chart = rendered(name)
    labels = {part: pod["metadata"]["labels"] for part, pod in chart.pods().items()}
    found = {
        owner: [part for part in labels if wanted.items() <= labels[part].items()]
        for owner, wanted in selectors_in(chart)
    }
    for owner, parts in found.items():
        of_worker = owner.endswith("-worker")
        if not of_worker or "worker" in labels:
            assert parts == ["worker" if of_worker else "coordinator"], owner
    for each in (*chart.all("StatefulSet"), *chart.all("Deployment")):
        wanted = each["spec"]["selector"]["matchLabels"]
        assert wanted.items() <= each["spec"]["template"]["metadata"]["labels"].items()


@EVERY_CASE
def test_what_is_referred_to_exists(name: str) -> None:
    chart, values = rendered(name), values_of(name)
    given = {values.get(table, {}).get("existingSecret") for table in ("database", "objects")}
    claims = {each["metadata"]["name"] for each in chart.all("PersistentVolumeClaim")}
    claims |= {values.get("data", {}).get("existingClaim")}
    maps = {each["metadata"]["name"] for each in chart.all("ConfigMap")}
    for pod, container in chart.containers():
        volumes = {each["name"]: each for each in pod["volumes"]}
        for mount in container["volumeMounts"]:
            assert mount["name"] in volumes, mount
        for volume in volumes.values():
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps
            elif "secret" in volume:
                assert volume["secret"]["secretName"] in given
            elif "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
            else:
                assert volume["name"] == "scratch"
    assert chart.only("StatefulSet")["spec"]["serviceName"] in {
        each["metadata"]["name"] for each in chart.all("Service")
    }


@EVERY_CASE
def test_ports_are_those_of_the_configuration_by_every_name(name: str) -> None:
    chart = rendered(name)
    [container] = chart.pods()["coordinator"]["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    server = chart.server()
    assert ports == {"enrolment": server["enrolment_port"], "site": server["site_port"], "http": server["http_port"]}
    for service in chart.all("Service"):
        for port in service["spec"]["ports"]:
            # Join strings hold the ports that the coordinator listens on: agents must find it at the same.
            assert port["port"] == ports[port["targetPort"]]
            assert port.get("nodePort", port["port"]) == port["port"]
    for policy in chart.all("NetworkPolicy"):
        for rule in policy["spec"].get("ingress", ()):
            assert {port["port"] for port in rule["ports"]} <= set(ports)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports


def test_agents_come_in_through_one_service_and_metrics_stay_inside() -> None:
    kinds = {"sqlite": "LoadBalancer", "node-ports": "NodePort"}
    for name, kind in kinds.items():
        services = {each["metadata"]["name"]: each["spec"] for each in rendered(name).all("Service")}
        outside = services.pop("hq-ravan")
        assert (outside["type"], [each["name"] for each in outside["ports"]]) == (kind, ["enrolment", "site"])
        assert {each.get("type", "ClusterIP") for each in services.values()} == {"ClusterIP"}


@EVERY_CASE
def test_every_container_is_locked_down(name: str) -> None:
    containers = list(rendered(name).containers())
    assert len(containers) >= 2
    for pod, container in containers:
        assert pod["automountServiceAccountToken"] is False
        # Variables of services begin with RAVAN_ where the release is called so, and would be read as keys.
        assert pod["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(pod)
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        # The coordinator refuses keys that its group may read, as a volume changed at every start would have them.
        assert context["fsGroupChangePolicy"] == "OnRootMismatch"
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"requests", "limits"} <= set(container["resources"])
        assert not any("hostPath" in volume for volume in pod["volumes"])


@EVERY_CASE
def test_nothing_secret_is_in_it(name: str) -> None:
    chart = rendered(name)
    assert not chart.all("Secret")
    for _, container in chart.containers():
        for variable in container["env"]:
            assert not re.search("PASSWORD|SECRET|TOKEN|KEY", variable["name"])


@EVERY_CASE
def test_the_coordinator_reads_its_configuration(name: str, tmp_path: Path) -> None:
    values = values_of(name)
    file = tmp_path / "coordinator.toml"
    file.write_text(rendered(name).configuration(), encoding="utf-8")
    loaded = load_config(file, {})
    assert loaded.server.hosts[: len(values["hosts"])] == tuple(values["hosts"])
    assert loaded.server.http_listen == "0.0.0.0"  # noqa: S104 - probes come from outside the pod
    for table, keys in values.get("config", {}).items():
        for key, value in keys.items():
            assert getattr(getattr(loaded, table), key) == value
    assert loaded.database.url == values.get("database", {}).get("url", "")
    assert loaded.objects.bucket == values.get("objects", {}).get("bucket", "")


def test_secrets_arrive_at_the_files_that_the_configuration_names(tmp_path: Path) -> None:
    chart = rendered("postgresql")
    file = tmp_path / "coordinator.toml"
    file.write_text(chart.configuration(), encoding="utf-8")
    loaded = load_config(file, {})
    for pod, container in chart.containers():
        mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
        files = {
            f"{mounts[volume['name']]}/{item['path']}": volume["secret"]["secretName"]
            for volume in pod["volumes"]
            if "secret" in volume
            for item in volume["secret"]["items"]
        }
        assert files == {
            loaded.database.password_file: "ravan-database",
            loaded.objects.secret_file: "ravan-objects",
        }
    with pytest.raises(ConfigError, match=re.escape(loaded.database.password_file)):
        records_place(loaded)


def test_every_replica_has_a_name_that_the_certificate_holds() -> None:
    chart = rendered("postgresql")
    [container] = chart.pods()["coordinator"]["spec"]["containers"]
    variables = {each["name"]: each for each in container["env"]}
    assert list(variables).index("POD_NAME") < list(variables).index("RAVAN_SERVER_PEER_HOST")
    owner = chart.only("StatefulSet")
    name, service = owner["metadata"]["name"], owner["spec"]["serviceName"]
    for number in range(3):
        peer = variables["RAVAN_SERVER_PEER_HOST"]["value"].replace("$(POD_NAME)", f"{name}-{number}")
        # Kubernetes gives a pod of a StatefulSet this name.
        assert peer == f"{name}-{number}.{service}.{NAMESPACE}.svc.cluster.local"
        assert peer in chart.server()["hosts"]
    [peers] = [each for each in chart.all("Service") if each["metadata"]["name"] == service]
    assert peers["spec"]["clusterIP"] == "None"
    [begin] = chart.pods()["coordinator"]["spec"]["initContainers"]
    founded = next(each["value"] for each in begin["env"] if each["name"] == "COORDINATOR_HOSTS")
    assert founded.split() == chart.server()["hosts"]


def test_another_configuration_starts_the_pods_anew() -> None:
    sums = {
        pod["metadata"]["annotations"]["checksum/config"]
        for name in ("sqlite", "postgresql")
        for pod in rendered(name).pods().values()
    }
    assert len(sums) == 2


def test_the_operator_scrapes_what_the_alerts_ask_for() -> None:
    chart = rendered("monitored")
    monitor = chart.only("ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    [service] = [each for each in chart.all("Service") if wanted <= each["metadata"]["labels"].items()]
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {each["name"] for each in service["spec"]["ports"]}
    plain = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    [scrape] = plain["scrape_configs"]
    assert endpoint["relabelings"] == [{"action": "replace", "targetLabel": "job", "replacement": scrape["job_name"]}]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


@needs_promtool
def test_the_operator_gets_every_alert_as_it_is(tmp_path: Path) -> None:
    rules = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
    originals = [group for path in rules for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    spec = rendered("monitored").only("PrometheusRule")["spec"]
    assert spec["groups"] == originals
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    done = run_promtool("check", "rules", tmp_path / "rules.yml")
    assert done.returncode == 0, done.stderr


@EVERY_CASE
def test_notes_say_what_comes_next(name: str) -> None:
    chart = rendered(name)
    server = chart.server()
    assert (
        f"reach {server['hosts'][0]} on the ports {server['enrolment_port']} and {server['site_port']}" in chart.notes
    )
    owner = f"statefulset/{chart.only('StatefulSet')['metadata']['name']}"
    commands = [line.strip() for line in chart.notes.splitlines() if line.strip().startswith("kubectl")]
    assert all(f"--namespace {NAMESPACE} " in each for each in commands)
    assert sum(owner in each for each in commands) == 4
