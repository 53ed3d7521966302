"""How fast a service is: one of its own, filled, loaded over HTTP, every reply checked. `docs/performance.md`."""


class BenchError(Exception):
    """Why there are no figures, in a sentence."""
