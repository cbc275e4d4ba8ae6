"""The client's side: which node gets a task, and how its outcome comes back.

membership       the dask client, the nodes that there are, reconnecting
node_link        the channel to one node, and what the node reports
waiting_tasks    tasks that wait for a node
placement        chooses the node of a task
dispatch         brings a request to its node, through the scheduler or directly
remote_task      one task: its sources, its outputs, its one outcome
task_calls       one task from its caller's side: places it, retries it, cancels it
transfer_limit   bounds the bytes of results that are under way
requests         makes requests from the arguments of a call
results          makes `Result`s of what a node has sent
files            writes results into files of this machine
batch            `map`
named_outcomes   `run_many`
progress         calls `on_progress`
counts           counts the outcomes, and sums the nodes' statistics
"""
