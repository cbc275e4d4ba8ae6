"""The nodes of a cluster: which there are, the link to each, and which one gets a task."""
