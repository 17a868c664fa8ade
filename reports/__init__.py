"""Published results, as a package so that those of the embedded suite can be installed."""
