"""Tuned settings in memory, of the least that they must hold."""

from typing import Any

from hpa_bench.results.tuned import FORMAT, Trial, Tuned, TunedMethod


def trial(ap: float, masr: float, **settings: Any) -> Trial:
    return Trial(settings=settings, seed=7, scores={"ap": ap, "masr": masr}, objective=ap - masr, run="trials/x")


def tuned(**methods: TunedMethod) -> Tuned:
    about = {"suite_settings": {}, "suite_config": {}, "split": "validation", "objective": "o", "design": "d"}
    return Tuned(format=FORMAT, suite="toy", trials=4, seeds=[7], methods=methods, untuned={}, **about)  # type: ignore[arg-type]


def method(*trials: Trial, **chosen: Any) -> TunedMethod:
    return TunedMethod(config={"s": 1.0}, space={}, trials=trials, chosen=chosen, git_commits=[], numerics=[])
