"""Lightning's names: where each is found, and those that leyden has no other use for."""
