"""Messages between a `ClusterPool` and its nodes: strict msgspec structs over a dask comm, and errors as data."""
