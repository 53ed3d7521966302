"""Floor 1: users, API keys, and who is calling."""
