"""The metrics of a pool, for all exporters: `offloop.prometheus` and `offloop.otel` read the same table."""
