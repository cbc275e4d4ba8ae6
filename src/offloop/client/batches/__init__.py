"""Many sources: `Pool.map`, an iterator of outcomes, with its sources and its progress."""
