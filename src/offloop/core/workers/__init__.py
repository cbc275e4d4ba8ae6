"""How many workers there are, which of them are idle, and when a dead one is replaced."""
