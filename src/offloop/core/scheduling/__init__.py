"""Which waiting task is next, which worker gets it, and what tasks are likely to cost."""
