"""lm-eval tasks of harmful and of harmless requests, one YAML each."""
