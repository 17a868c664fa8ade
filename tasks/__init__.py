"""lm-eval tasks that suites name, one YAML each."""
