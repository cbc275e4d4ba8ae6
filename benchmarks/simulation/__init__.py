"""A pool in simulated time: traces of tasks, the core and plain models that schedule them, and what came of it.

traces      tasks that come: when, how dear, how large, on whose account
models      first come first served, shortest first, processor sharing: a few lines each, so that they can be believed
the_core    the pool's own core, told what happens and obeyed; nothing else here knows it
callers     closed loops: callers that submit again when they have a result
checks      what must hold of any schedule of the core's
figures     slowdown, wait, fairness, memory
picture     the figure for the docs
"""
