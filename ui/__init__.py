"""Floor 4: the people's door."""
