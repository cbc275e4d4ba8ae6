"""One call of `Pool.run` from its caller's side: source, estimate, the way of the source into shared memory, result."""
