"""Scripts that import Lightning by its own name."""
