"""The embedded tiny suite: a small drawn world, its six tasks and its safety sets."""
