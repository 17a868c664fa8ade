"""Which folders are packages; all else stands in pyproject.toml.

Methods, tasks, safety sets and published results lie beside the package in a checkout, so that a reader finds them, and
inside it once installed, so that no name of theirs is taken from anyone.
"""

from setuptools import find_packages, setup

BESIDE = ("baselines", "reports", "safety_sets", "tasks")

setup(
    packages=[
        *find_packages(include=["hpa_bench", "hpa_bench.*"]),
        *(f"hpa_bench.{name}" for folder in BESIDE for name in find_packages(include=[folder, f"{folder}.*"])),
    ],
    package_dir={f"hpa_bench.{folder}": folder for folder in BESIDE},
)
