"""Results: the run folder, and every number that is computed from it."""
