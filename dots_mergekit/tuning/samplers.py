"""What proposes the next point of a search: Optuna's samplers, and an even grid."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial

__all__ = ["SAMPLERS", "Sampler"]

# Optuna's default of 50 would make a search of common length a random one.
_POPULATION = 20


@dataclass(frozen=True)
class Sampler:
    """A way to propose points.

    Attributes:
        says: What it does.
        make: Makes a fresh one for a single suggestion, from its seed: Optuna does not store a
            sampler's state, and so a resumed search goes on as an uninterrupted one would.
        widens: The ranges of λ grow where the best point lies at an end (`widening.py`).
    """

    says: str
    make: Callable[[int], BaseSampler]
    widens: bool = False


def _gp(seed: int) -> BaseSampler:
    import optuna
    from optuna.trial import TrialState

    class GaussianProcess(optuna.samplers.GPSampler):
        """Optuna's, but blind to constraints that no trial has violated.

        Optuna would model even those, by a process that knows nothing but one side of the limit,
        and keep away from wherever it has not been. A search in which nothing collapses is the
        same with the constraints and without.
        """

        def sample_relative(
            self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
        ) -> dict[str, Any]:
            known = study.get_trials(
                deepcopy=False, states=(TrialState.COMPLETE, TrialState.RUNNING)
            )
            if any(value > 0 for one in known for value in one.constraints.values()):
                return super().sample_relative(study, trial, search_space)
            plain = optuna.create_study(
                storage=optuna.storages.InMemoryStorage(), directions=study.directions
            )
            for one in known:
                if one.number == trial.number:
                    continue
                bare = copy.copy(one)
                bare.system_attrs = {}  # where constraints are kept
                plain.add_trial(bare)
            number = plain.ask().number
            return super().sample_relative(plain, plain.trials[number], search_space)

    return GaussianProcess(seed=seed, deterministic_objective=False)


def _tpe(seed: int) -> BaseSampler:
    import optuna

    return optuna.samplers.TPESampler(seed=seed, multivariate=True)


def _nsga2(seed: int) -> BaseSampler:
    import optuna

    class Genetic(optuna.samplers.NSGAIISampler):
        """Optuna's, with parents that are in the same order whether they were noted or not.

        Optuna notes the parents of a generation in the study, and gives them in the order of
        trials from then on. A suggestion is to follow from the finished trials alone.
        """

        def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
            parents: list[FrozenTrial] = super().select_parent(study, generation)
            if self.get_population(study, generation):
                parents.sort(key=lambda trial: trial.number)
            return parents

    return Genetic(seed=seed, population_size=_POPULATION)


def _random(seed: int) -> BaseSampler:
    import optuna

    return optuna.samplers.RandomSampler(seed=seed)


SAMPLERS: Mapping[str, Sampler] = {
    "gp": Sampler("a Gaussian process proposes where it expects the most hypervolume", _gp, True),
    "tpe": Sampler("tree-structured Parzen estimators, all dimensions together", _tpe),
    "nsga2": Sampler("a genetic algorithm", _nsga2),
    "random": Sampler("points drawn evenly", _random),
    "grid": Sampler(
        "an even grid in random order, `space.grid`, is in line before it asks", _random
    ),
}
"""Every sampler, by the name that `sampler:` takes."""
