"""The I/O half of the server: carries out the core's commands with processes, sockets, shared memory and timers."""
