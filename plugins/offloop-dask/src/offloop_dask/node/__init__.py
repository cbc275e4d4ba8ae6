"""The node's side: a dask worker plugin that owns one offloop pool, and serves the channels of its clients.

plugin           the `WorkerPlugin`, and the dask task that carries one request
host             accepts the channels of clients, reports the state of the pool
node_pool        the pool of the node: opened for the first client, closed after the last
session          one client: its tasks, cancellation, what is left when it vanishes
task_run         one task: sources, the pool, results
operations       decodes the operations of requests
progress_sender  progress of one task, at a bounded rate
reports          the state of the pool for clients
"""
