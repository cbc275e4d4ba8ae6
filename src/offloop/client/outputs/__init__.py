"""Readers of tasks that hand over several outputs, each as soon as it is ready: streams and named pipelines."""
