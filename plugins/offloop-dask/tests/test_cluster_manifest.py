"""The Kubernetes manifest of docs/cluster.md: its structure, by our schema and by that of the operator, and its numbers.

The operator's custom resource definition contains the schemas of Kubernetes for pods and services. It is read from the files of
dask-kubernetes, which is not imported, so `pip install --no-deps dask-kubernetes` is enough.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import jsonschema
import msgspec
import pytest
import yaml

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


def strict(schema: Any) -> Any:
    """A schema of Kubernetes as JSON schema, in which an object has no other fields than those that are named."""
    if isinstance(schema, list):
        return [strict(one) for one in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    found = {name: strict(value) for name, value in cast("dict[str, Any]", schema).items()}
    if "properties" in found and not found.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    if found.get("format") == "int-or-string" or found.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    return found


@pytest.fixture(scope="module")
def operator() -> Any:
    """The schema of the operator that is installed."""
    package = find_spec("dask_kubernetes")
    if package is None or package.origin is None:
        pytest.skip("dask-kubernetes is not installed")
    folder = Path(package.origin).parent / "operator" / "deployment" / "helm" / "dask-kubernetes-operator" / "crds"
    definition = yaml.safe_load((folder / "daskcluster.yaml").read_text())
    assert (definition["spec"]["group"], definition["spec"]["names"]["kind"]) == ("kubernetes.dask.org", "DaskCluster")
    (version,) = [version for version in definition["spec"]["versions"] if version["name"] == "v1"]
    assert version["served"]
    schema = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"] |= {"apiVersion": {"const": "kubernetes.dask.org/v1"}, "kind": {"const": "DaskCluster"}}
    schema["properties"] |= {"metadata": {"type": "object"}}
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def problems(operator: Any, text: bytes) -> list[str]:
    return [f"{error.json_path}: {error.message[:200]}" for error in operator.iter_errors(yaml.safe_load(text))]


def test_the_operator_accepts_the_manifest(operator: Any) -> None:
    assert problems(operator, MANIFEST.read_bytes()) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (b"replicas: 4", b"replicas: four"),
        (b"replicas: 4", b"replica: 4"),
        (b"volumeMounts", b"volumemounts"),
        (b"containerPort: 8786", b"containerPort: tcp"),
        (b"secretRef", b"secretref"),
        (b"medium: Memory", b"medium: [Memory]"),
        (b"selector:", b"selectors:"),
        (b"DaskCluster", b"DaskClusters"),
    ],
)
def test_the_operator_refuses_a_wrong_manifest(operator: Any, right: bytes, wrong: bytes) -> None:
    text = MANIFEST.read_bytes()
    assert right in text
    assert problems(operator, text.replace(right, wrong, 1))
