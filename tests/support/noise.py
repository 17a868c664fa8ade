"""Noise runs as the report's tests have them."""

from hpa_bench.results.run_folder import RunFolder
from tests.support.run_folders import write_run


def noise_run(root, repeat, method="seqft", seed=0, **options) -> RunFolder:
    """A noise run; its scores are those of another seed, which is what makes them differ here."""
    run = write_run(root / f"noise{repeat}-{seed}", method, 100 * repeat + seed, **options)
    manifest = run.manifest.model_copy(update={"noise": repeat, "seed": seed})
    manifest.write(run.path / "manifest.json")
    return run


def with_noise(root, repeats=(1, 2, 3, 4)):
    plain = [write_run(root / "plain", method, seed) for method in ("seqft", "hpa") for seed in (0, 1)]
    plain.append(write_run(root / "plain", "zero_shot", stages=[]))
    return plain, [noise_run(root, repeat) for repeat in repeats]
