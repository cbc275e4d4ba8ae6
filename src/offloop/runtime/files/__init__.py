"""Source files that the server reads, and output files that workers write and the server names."""
