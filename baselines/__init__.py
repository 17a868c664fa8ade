"""Methods to compare against, one a file, each through the same door as HPA and as a stranger's plugin."""
