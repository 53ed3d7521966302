"""How well search finds: sets of memories with questions, asked of a service of its own. `docs/evaluation.md`."""
