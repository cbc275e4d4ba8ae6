"""The same pool on many machines, on dask.distributed: `ClusterPool("tcp://scheduler:8786")`.

cluster_pool     `ClusterPool`, with the calls of `offloop.Pool`
settings         what each node's pool is made of, and the limits of the client
storage          `Url`: objects of S3, Google Cloud, Azure, HTTP, and files
errors           `NodeDied`, `SchedulerLost`, `VersionMismatch`

client/          one call from its caller's side: nodes, placement, dispatch, transfers, results
wire/            the messages between a client and a node, and the channel that carries them
node/            the dask worker plugin with its pool, and the tasks of its clients
batches/         `offloop cluster-map`: a resumable batch with a manifest
"""

from .batches.stored_batch import BatchReport, cluster_map
from .client.batch import ClusterBatch
from .client.counts import ClusterStatistics, NodeStatistics
from .client.named_outcomes import ClusterNamedOutcomes
from .client.results import ClusterResult
from .cluster_pool import ClusterPool
from .errors import NodeDied, SchedulerLost, VersionMismatch
from .storage import Url

__all__ = [
    "BatchReport",
    "ClusterBatch",
    "ClusterNamedOutcomes",
    "ClusterPool",
    "ClusterResult",
    "ClusterStatistics",
    "NodeDied",
    "NodeStatistics",
    "SchedulerLost",
    "Url",
    "VersionMismatch",
    "cluster_map",
]
