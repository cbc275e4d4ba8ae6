"""The client's side: which node gets a task, and how its outcome comes back.

calls            the calls of `ClusterPool`
task_calls       one task from its caller's side: places it, retries it, cancels it
requests         makes requests from the arguments of a call
remote_task      one attempt of a task: its sources, its outputs, its one outcome
dispatch         brings a request to its node, through the scheduler or directly
transfer_limit   bounds the bytes of results that are under way
results, files   makes `Result`s of what a node has sent; writes them into files of this machine
batch            `map`
named_outcomes   `run_many`
progress         calls `on_progress`
counts           counts the outcomes, and sums the nodes' statistics
nodes/           the dask client, links to the nodes, placement
"""
