"""Launchers: they start planned runs, here or elsewhere."""
