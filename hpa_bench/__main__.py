"""`python -m hpa_bench` is `hpa-bench`."""

from hpa_bench.cli import main

main()
