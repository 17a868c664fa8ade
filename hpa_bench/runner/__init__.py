"""The runner: one run from its specification to its last verdict."""
