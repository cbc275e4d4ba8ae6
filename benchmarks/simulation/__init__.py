"""A pool in simulated time: traces of tasks, schedules of the core and of plain models, and their measurements.

traces      tasks with arrival, cost, memory, tenant and priority
models      first come first served, shortest first, processor sharing: a few lines each, so that a reader can check them
the_core    the pool's own core, which gets events and whose commands are simulated; no other module here uses it
callers     closed loops: callers that submit their next task when they have a result
checks      properties that every schedule of the core must have
figures     slowdown, wait, fairness, memory
picture     the figure for the docs
"""
