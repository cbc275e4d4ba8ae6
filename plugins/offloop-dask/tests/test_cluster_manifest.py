"""The Kubernetes manifest of docs/cluster.md: its structure, by a schema of the parts that it uses, and its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

MANIFEST = Path(__file__).parents[3] / "docs" / "cluster" / "daskcluster.yaml"

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
Quantity = Annotated[str, msgspec.Meta(pattern=r"^[0-9]+(m|Ki|Mi|Gi)?$")]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    pass


class Variable(Strict, frozen=True, kw_only=True):
    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Z][A-Z0-9_]*$")]
    value: str


class Reference(Strict, frozen=True, kw_only=True):
    name: Name


class VariableSource(Strict, frozen=True, kw_only=True):
    secret_ref: Reference


class ContainerPort(Strict, frozen=True, kw_only=True):
    name: Annotated[Name, msgspec.Meta(max_length=15)]
    container_port: Port
    protocol: Literal["TCP"]


class Amounts(Strict, frozen=True, kw_only=True):
    cpu: Quantity | None = None
    memory: Quantity


class Resources(Strict, frozen=True, kw_only=True):
    requests: Amounts
    limits: Amounts


class Mount(Strict, frozen=True, kw_only=True):
    name: Name
    mount_path: Annotated[str, msgspec.Meta(pattern="^/")]


class HttpGet(Strict, frozen=True, kw_only=True):
    port: Name
    path: str


class Probe(Strict, frozen=True, kw_only=True):
    http_get: HttpGet
    initial_delay_seconds: int
    period_seconds: int


class Container(Strict, frozen=True, kw_only=True):
    name: Name
    image: str
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"]
    args: list[str]
    env: list[Variable] = []
    env_from: list[VariableSource] = []
    ports: list[ContainerPort]
    resources: Resources
    volume_mounts: list[Mount] = []
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None


class EmptyDir(Strict, frozen=True, kw_only=True):
    medium: Literal["Memory"]
    size_limit: Quantity


class Volume(Strict, frozen=True, kw_only=True):
    name: Name
    empty_dir: EmptyDir


class PodSpec(Strict, frozen=True, kw_only=True):
    containers: Annotated[list[Container], msgspec.Meta(min_length=1)]
    volumes: list[Volume] = []


class Workers(Strict, frozen=True, kw_only=True):
    replicas: Annotated[int, msgspec.Meta(ge=1)]
    spec: PodSpec


class ServicePort(Strict, frozen=True, kw_only=True):
    name: Name
    protocol: Literal["TCP"]
    port: Port
    target_port: Name


class Service(Strict, frozen=True, kw_only=True):
    type: Literal["ClusterIP", "NodePort", "LoadBalancer"]
    selector: dict[str, str]
    ports: list[ServicePort]


class Scheduler(Strict, frozen=True, kw_only=True):
    spec: PodSpec
    service: Service


class ClusterSpec(Strict, frozen=True, kw_only=True):
    worker: Workers
    scheduler: Scheduler


class DaskCluster(Strict, frozen=True, kw_only=True):
    api_version: Literal["kubernetes.dask.org/v1"]
    kind: Literal["DaskCluster"]
    metadata: Reference
    spec: ClusterSpec


def gibibytes(quantity: str) -> int:
    assert quantity.endswith("Gi"), quantity
    return int(quantity.removesuffix("Gi"))


def decode(text: bytes) -> DaskCluster:
    return msgspec.yaml.decode(text, type=DaskCluster)


def test_the_manifest_is_a_dask_cluster() -> None:
    cluster = decode(MANIFEST.read_bytes())
    name = cluster.metadata.name
    (worker,), (scheduler,) = cluster.spec.worker.spec.containers, cluster.spec.scheduler.spec.containers
    assert (worker.name, scheduler.name) == ("worker", "scheduler")  # the names that the operator asks for
    assert worker.image == scheduler.image
    service = cluster.spec.scheduler.service
    assert service.selector == {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
    assert {port.target_port for port in service.ports} <= {port.name for port in scheduler.ports}
    for probe in (scheduler.readiness_probe, scheduler.liveness_probe):
        assert probe is not None
        assert probe.http_get.port in {port.name for port in scheduler.ports}


def test_a_node_has_shared_memory_and_no_memory_manager_of_dask() -> None:
    workers = decode(MANIFEST.read_bytes()).spec.worker.spec
    (worker,) = workers.containers
    assert "--no-nanny" in worker.args
    assert "$(DASK_WORKER_NAME)" in worker.args  # which the operator sets
    names = {variable.name.removeprefix("DASK_DISTRIBUTED__WORKER__MEMORY__"): variable.value for variable in worker.env}
    assert names == dict.fromkeys(("TARGET", "SPILL", "PAUSE", "TERMINATE"), "False")
    (mount,), (volume,) = worker.volume_mounts, workers.volumes
    assert mount.mount_path == "/dev/shm"
    assert mount.name == volume.name
    memory = gibibytes(worker.resources.limits.memory)
    assert worker.resources.requests.memory == worker.resources.limits.memory
    assert 2 * gibibytes(volume.empty_dir.size_limit) == memory  # the default memory_limit is half of the memory


@pytest.mark.parametrize(
    ("right", "wrong"),
    [(b"replicas: 4", b"replica: 4"), (b"16Gi", b"16 GB"), (b"DaskCluster", b"DaskClusters"), (b"8786", b"87860")],
)
def test_a_wrong_manifest_is_found(right: bytes, wrong: bytes) -> None:
    text: Any = MANIFEST.read_bytes().replace(right, wrong)
    with pytest.raises(msgspec.ValidationError):
        decode(text)
