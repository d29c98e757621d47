"""Test the statements of docs/guides/serving.md, the dashboard and serve/config.yaml."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from skytext.config.settings import load_config
from skytext.service.replicas.deployments import CAPTIONING, EMBEDDING, INGRESS, SEARCH
from skytext.service.replicas.serve_application import Arguments
from skytext.service.telemetry.metrics import METRICS
from tests.service.app import client

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guides" / "serving.md").read_text(encoding="utf-8")


def named_settings() -> Iterator[str]:
    for row in re.findall(r"^\| (`max_\w+`.*?|`\w+_timeout_s`.*?) \|", PAGE, re.M):
        yield from (f"service.limits.{name}" for name in re.findall(r"`(\w+)`", row))


@pytest.mark.parametrize("name", sorted(set(named_settings())))
def test_every_setting_exists(name: str) -> None:
    settings = load_config().model_dump()
    for part in name.rstrip(".").split("."):
        assert part in settings
        settings = settings[part]


def test_every_route_and_every_problem_is_listed(served: Path) -> None:
    with client(served) as http:
        paths = http.get("/openapi.json").json()["paths"]
    for path in paths:
        assert path.removeprefix("/v1/images/{image_id}") in PAGE, path
    source = "".join(p.read_text() for p in (ROOT / "lib" / "skytext" / "service").glob("*.py"))
    codes = set(re.findall(r'ProblemError\(\s*\d+,\s*"([\w-]+)"', source)) | {"overloaded"}
    unlisted = {"internal", "no-page", "refused", "method-not-allowed"}
    grouped = {"not-decodable", "not-describable", "image-too-large"}
    for code in codes - unlisted - grouped:
        assert f"`{code}`" in PAGE, code


def expressions() -> list[str]:
    dashboard = json.loads((ROOT / "docs" / "grafana" / "skytext.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_the_dashboard_shows_what_is_measured() -> None:
    shown = set(
        re.findall(
            r"ray_(skytext_\w+?)(?:_bucket|_sum|_count)?(?=[{\[)]|$)",
            "\n".join(expressions()),
            re.M,
        )
    )
    assert shown <= set(METRICS)
    assert set(METRICS) - shown == {"skytext_swap_seconds"}


def test_the_alert_rules_ask_for_what_is_measured() -> None:
    path = ROOT / "deploy" / "prometheus" / "skytext-alerts.yaml"
    (group,) = yaml.safe_load(path.read_text())["groups"]
    assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"]) > 0
    asked = set()
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        found = re.findall(r"\b[a-z]\w*_\w+", rule["expr"])
        assert found, rule["expr"]
        for name in found:
            assert name.removeprefix("ray_") in METRICS, name
            assert name.startswith("ray_")
            metric = METRICS[name.removeprefix("ray_")]
            is_counter = name.endswith("_total")
            assert (metric.kind == "counter") == is_counter == ("increase(" in rule["expr"])
            labels = re.findall(rf"{name}\{{(\w+)=", rule["expr"])
            assert set(labels) <= set(metric.labels)
            asked.add(name.removeprefix("ray_"))
        assert rule["expr"].count("(") == rule["expr"].count(")")
    freshness = {"oldest_unsearchable_seconds", "uncovered_rows", "index_segments", "table_bytes"}
    freshness |= {"table_versions", "reindex_success_timestamp_seconds"}
    assert {f"skytext_{name}" for name in freshness} <= asked


def test_the_dashboard_asks_for_labels_that_are_there() -> None:
    for expression in expressions():
        for name, metric in METRICS.items():
            if f"ray_{name}" in expression:
                given = re.findall(r"sum by \(([\w, ]+)\)", expression)
                labels = {label.strip() for group in given for label in group.split(",")}
                assert labels <= {*metric.labels, "le"}, expression


def test_the_deployed_file_fits_two_cores_and_is_what_is_built() -> None:
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text())
    (application,) = config["applications"]
    load_config(base=Arguments(**application["args"]).config)
    deployments = {one["name"]: one for one in application["deployments"]}
    assert set(deployments) == {INGRESS, EMBEDDING, SEARCH}
    assert CAPTIONING not in deployments
    cpus = sum(
        one["ray_actor_options"]["num_cpus"] * one["autoscaling_config"]["min_replicas"]
        for one in deployments.values()
    )
    assert cpus <= 2
    assert deployments[SEARCH]["max_replicas_per_node"] == 1
    assert load_config(base=application["args"]["config"]).service.access.require_keys
