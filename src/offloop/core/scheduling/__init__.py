"""Scheduling: the order of waiting tasks, their dispatch to workers, and estimates of their cost."""
