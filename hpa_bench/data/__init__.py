"""Data: samples of lm-eval tasks, the user's downloads, and how answers are scored."""
