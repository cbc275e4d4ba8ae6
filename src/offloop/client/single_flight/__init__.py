"""Single flight: equal calls at the same time share one task."""
