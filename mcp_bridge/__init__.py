"""Floor 4: the agents' door."""
