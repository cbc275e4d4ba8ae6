"""The dashboard and the alert rules ask for metrics and labels that exist, and the compose file for files that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
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


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
@pytest.mark.parametrize("arguments", [["rules", "alerts.yml"], ["config", "prometheus.yml"]])
def test_promtool_finds_no_fault(arguments: list[str]) -> None:
    checked = subprocess.run(["promtool", "check", *arguments], cwd=GRAFANA, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
