"""Estimates of the memory and time of a pipeline, from the header of its source, before the task starts."""
