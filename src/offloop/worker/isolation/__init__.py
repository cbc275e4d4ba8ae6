"""What separates a worker from its server and limits it: descriptors, parent death, terminal, priority, memory limits."""
