"""The dashboard and the alert rules ask for metrics and labels that exist, and the compose file for files that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from offloop import Pool
from offloop.metrics.metric_table import METRICS
from offloop.prometheus import PoolCollector

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "docs" / "grafana"
RULES = yaml.safe_load((GRAFANA / "alerts.yml").read_text())["groups"][0]["rules"]
BOARD: dict[str, Any] = json.loads((GRAFANA / "offloop.json").read_text())

ADDED_BY_PROMETHEUS = {"job", "instance"}
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum"), "info": ("_info",)}


def queries() -> list[str]:
    """Every query of the dashboard, of its variables, of the alert rules, and of the page about operation."""
    panels = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
    variables = [found["definition"] for found in BOARD["templating"]["list"] if "definition" in found]
    page = (ROOT / "docs" / "operations.md").read_text()
    (example,) = re.findall(r"^```\n(histogram_quantile.*?)^```$", page, re.MULTILINE | re.DOTALL)
    lines = [line.partition("  #")[0].strip() for line in example.splitlines()]
    return [*panels, *variables, *(rule["expr"] for rule in RULES), *lines]


def labels_by_sample() -> dict[str, set[str]]:
    """Labels of every sample that the collector may have."""
    label_of = {f"offloop_{metric.name}": metric.label for metric in METRICS}
    found: dict[str, set[str]] = {}
    for family in PoolCollector(Pool(1), max_pipelines=1).describe():
        for suffix in SUFFIXES[family.type]:
            label = label_of.get(family.name)
            le = {"le"} if suffix == "_bucket" else set[str]()
            found[family.name + suffix] = ADDED_BY_PROMETHEUS | le | ({label} if label else set())
    return found


def test_there_are_ten_panels_and_six_alerts() -> None:
    assert len(BOARD["panels"]) == 10
    assert len({panel["id"] for panel in BOARD["panels"]}) == 10
    assert len(RULES) == 6


@pytest.mark.parametrize("query", queries())
def test_a_query_names_a_metric_and_labels_that_exist(query: str) -> None:
    samples = labels_by_sample()
    named = re.findall(r"\b(offloop_\w+)(?:\{([^}]*)\})?", query)
    assert named
    known = set[str]()
    for name, selectors in named:
        assert name in samples
        known |= samples[name]
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selectors)) <= samples[name]
    for labels in re.findall(r"\bby \(([^)]*)\)", query):
        assert {label.strip() for label in labels.split(",")} <= known


def test_a_legend_names_a_label_of_its_query() -> None:
    for panel in BOARD["panels"]:
        for target in panel["targets"]:
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= set(re.findall(r"\w+", target["expr"]))


def test_the_compose_file_mounts_files_that_exist() -> None:
    services = yaml.safe_load((GRAFANA / "compose.yaml").read_text())["services"]
    assert set(services) == {"prometheus", "grafana"}
    for service in services.values():
        assert re.fullmatch(r"[\w/]+:v?[\d.]+", service["image"])
        for volume in service["volumes"]:
            source, target, mode = volume.split(":")
            assert (GRAFANA / source).exists()
            assert (target[0], mode) == ("/", "ro")
    settings = yaml.safe_load((GRAFANA / "prometheus.yml").read_text())
    assert settings["rule_files"] == ["alerts.yml"]
    for provisioning in GRAFANA.glob("provisioning/*/*.yml"):
        assert yaml.safe_load(provisioning.read_text())["apiVersion"] == 1


needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")


def promtool(*arguments: str | Path) -> None:
    checked = subprocess.run(["promtool", *arguments], cwd=GRAFANA, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_promtool
@pytest.mark.parametrize("arguments", [["rules", "alerts.yml"], ["config", "prometheus.yml"]])
def test_promtool_finds_no_fault(arguments: list[str]) -> None:
    promtool("check", *arguments)


@needs_promtool
def test_promtool_can_read_every_query(tmp_path: Path) -> None:
    expressions = [query.replace("$__rate_interval", "5m") for query in queries() if not query.startswith("label_values")]
    assert len(expressions) > 30
    rules = [{"record": f"test:query:{number}", "expr": query} for number, query in enumerate(expressions)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", tmp_path / "queries.yml")


SERVER = 'job="offloop", instance="a:8000"'


def series(name: str, values: str, labels: str = "") -> dict[str, str]:
    return {"series": f"{name}{{{SERVER}{labels}}}", "values": values}


def slow(name: str, bound: str) -> list[dict[str, str]]:
    """A histogram whose values, ten a minute, are all above the bound."""
    return [series(f"{name}_bucket", "0x60", f', le="{bound}"'), series(f"{name}_bucket", "0+10x60", ', le="+Inf"')]


FIRING: dict[str, list[dict[str, str]]] = {
    "OffloopBreakerOpen": [series("offloop_breaker_state", "1x60", ', state="open"')],
    "OffloopTasksWaitLong": slow("offloop_task_wait_seconds", "2.0"),
    "OffloopSharedMemoryFull": [
        series("offloop_shared_memory_used_bytes", "95x60"),
        series("offloop_shared_memory_limit_bytes", "100x60"),
    ],
    "OffloopWorkersCrash": [series("offloop_worker_crashes_total", "0+2x60")],
    "OffloopEstimatesTooLow": slow("offloop_estimate_memory_ratio", "4.0"),
    "OffloopSourcesQuarantined": [series("offloop_quarantined_sources", "1x60")],
}
QUIET: dict[str, list[dict[str, str]]] = {
    "OffloopBreakerOpen": [series("offloop_breaker_state", "0x60", ', state="open"')],
    "OffloopTasksWaitLong": [
        series("offloop_task_wait_seconds_bucket", "0+10x60", f', le="{bound}"') for bound in ("0.5", "1.0", "+Inf")
    ],
    "OffloopSharedMemoryFull": [
        series("offloop_shared_memory_used_bytes", "85x60"),
        series("offloop_shared_memory_limit_bytes", "100x60"),
    ],
    "OffloopWorkersCrash": [series("offloop_worker_crashes_total", "0x30 1x30")],
    "OffloopEstimatesTooLow": [
        series("offloop_estimate_memory_ratio_bucket", "0+10x60", f', le="{bound}"') for bound in ("1.0", "2.0", "+Inf")
    ],
    "OffloopSourcesQuarantined": [series("offloop_quarantined_sources", "0x60")],
}


@needs_promtool
@pytest.mark.parametrize(("given", "fires"), [(FIRING, True), (QUIET, False)], ids=["trouble", "no trouble"])
def test_an_alert_fires_in_trouble_and_only_then(tmp_path: Path, given: dict[str, list[dict[str, str]]], fires: bool) -> None:
    assert given.keys() == {rule["alert"] for rule in RULES}
    tests: list[dict[str, Any]] = []
    for rule in RULES:
        alert = {
            "exp_labels": {"job": "offloop", "instance": "a:8000", **rule["labels"]},
            "exp_annotations": {
                name: text.replace("{{ $labels.instance }}", "a:8000") for name, text in rule["annotations"].items()
            },
        }
        expected = {"eval_time": "1h", "alertname": rule["alert"], "exp_alerts": [alert] if fires else []}
        tests.append({"interval": "1m", "input_series": given[rule["alert"]], "alert_rule_test": [expected]})
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"rule_files": [str(GRAFANA / "alerts.yml")], "tests": tests}))
    promtool("test", "rules", tmp_path / "tests.yml")


def can_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_compose(), reason="docker compose is not installed")
def test_docker_compose_can_read_the_compose_file() -> None:
    checked = subprocess.run(
        ["docker", "compose", "config", "--quiet"], cwd=GRAFANA, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.skipif(find_spec("check_jsonschema") is None, reason="check-jsonschema is not installed")
def test_the_compose_file_keeps_the_schema_of_the_specification(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((GRAFANA / "compose.yaml").read_text().replace("depends_on:", "depend_on:"))
    for file, code in ((GRAFANA / "compose.yaml", 0), (wrong, 1)):
        checked = subprocess.run([*command, file], capture_output=True, text=True, check=False)
        assert checked.returncode == code, checked.stdout
