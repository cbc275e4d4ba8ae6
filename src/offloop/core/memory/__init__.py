"""Memory as numbers: the arena and its allocators, the memory budget, and the requests that wait for blocks."""
