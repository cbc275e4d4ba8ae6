"""What the server reports: the stream of pool events, log lines, and the memory of the machine."""
