"""The first samples of the suite's safety data, for methods that replay some."""

from collections.abc import Sequence

from hpa_bench import Sample, StageContext, UserError


def first_safety_samples(ctx: StageContext, count: int, method: str, key: str) -> Sequence[Sample]:
    """Return `count` samples of the suite's safety data, the same in every stage of a run.

    Args:
        ctx: any stage.
        count: how many.
        method: who asks, for the message.
        key: its hyper-parameter that says how many, for the message.

    Raises:
        UserError: there are fewer.
    """
    if not count:
        return ()
    # The harness gives them in a random order of the run's own, so the first are a random draw.
    samples = ctx.safety_data()[:count]
    if len(samples) < count:
        raise UserError(
            f"{key}={count} of method {method!r} is more than the suite's safety data holds:"
            f" expected at most {len(samples)}."
        )
    return samples
