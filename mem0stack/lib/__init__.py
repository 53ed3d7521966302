"""Floor 0: what knows Django and libraries, and nothing of this product."""
