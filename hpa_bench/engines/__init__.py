"""Engines: they turn rendered prompts and images into responses. One small interface, several ways to run a model."""
