"""One worker process from the server's side: its start, its connection, its messages and its output."""
