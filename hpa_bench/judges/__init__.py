"""Judges: they decide, from stored responses, what a model did with a request."""
