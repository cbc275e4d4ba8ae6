"""How a source gets to where a worker can read it: its header and estimate, its copy, and streams that are received."""
