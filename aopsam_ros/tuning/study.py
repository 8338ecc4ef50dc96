"""The search itself, by optuna; every trial is kept in a file at once, so that it can go on."""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aopsam_ros.errors import OptionError
from aopsam_ros.options import Value
from aopsam_ros.tuning.score import Score
from aopsam_ros.tuning.search_space import SearchSpace

_BEGINNING = b'{"op_code"'  # of a journal of optuna's


@dataclass(frozen=True)
class Tried:
    """One trial: the options it set, what they came to, and its excess over the budget."""

    values: Mapping[str, Value]
    score: Score
    excess: float


class Study:
    """A search that goes on where it stopped.

    `path` is the file of its trials, `description` all that their scores depend on; what is
    suggested with a seed is the same whether the search was interrupted or not.

    Raises:
        OptionError: if the file holds a search with another description, or none.
    """

    def __init__(self, path: Path, description: Mapping[str, Any], seed: int) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        if path.exists():  # a last line that was cut off would spoil the next one
            content = path.read_bytes()
            if content[: len(_BEGINNING)] != _BEGINNING[: len(content)]:  # stays as it is
                raise OptionError(f"{path}: not the trials of a search: choose another --out")
            os.truncate(path, content.rfind(b"\n") + 1)
        self._seed = seed
        try:
            storage = JournalStorage(JournalFileBackend(str(path)))
            self._study = optuna.create_study(
                storage=storage, study_name="aopsam", direction="maximize", load_if_exists=True
            )
        except (ValueError, LookupError, TypeError, AssertionError) as error:
            # optuna checks little of what it reads.
            reason = f"{path}: not the trials of a search ({error!r}): choose another --out"
            raise OptionError(reason) from None
        known = self._study.user_attrs.get("description")
        if known is None:
            self._study.set_user_attr("description", dict(description))
        elif known != dict(description):
            changed = [key for key in description if known.get(key) != description[key]]
            raise OptionError(
                f"{path}: holds a search with another {' and '.join(changed) or 'description'}: "
                "choose another --out"
            )

    def tried(self) -> list[Tried]:
        """Return the finished trials, in their order."""
        finished = (trial.user_attrs for trial in self._trials("COMPLETE"))
        return [Tried(o["values"], Score(**o["score"]), o["excess"]) for o in finished]

    def run(
        self,
        trials: int,
        space: SearchSpace,
        start: Mapping[str, Value],
        judge: Callable[[Mapping[str, Value]], Tried],
        metric: str,
    ) -> None:
        """Search until there are so many finished trials, those of earlier runs included.

        `start` has the first trial's options by name, `judge` tries a trial's, and `metric` is
        maximised, see `Score.value`.
        """
        done = len(self._trials("COMPLETE"))
        bar = tqdm(total=trials, initial=min(done, trials), unit="trial", desc="tune")
        with bar, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # optuna calls what is used here experimental
            if done == 0 and not self._trials("WAITING"):
                self._study.enqueue_trial(dict(start))
            for number in range(done, trials):
                self._study.sampler = self._sampler(number)
                trial = self._study.ask()
                tried = judge(space.suggest(trial))
                for name, content in asdict(tried).items():
                    trial.set_user_attr(name, content)
                self._study.tell(trial, tried.score.value(metric))
                bar.update()
                bar.set_postfix_str(self._best())

    def _sampler(self, number: int) -> Any:  # noqa: ANN401  (optuna is optional)
        """Return a sampler of its own for each trial: its random numbers depend on nothing else."""
        from optuna.samplers import TPESampler

        return TPESampler(
            seed=(self._seed * 1_000_003 + number) % 2**32,  # NumPy's limit
            n_startup_trials=20,
            multivariate=True,
            group=True,
            constant_liar=False,  # a trial that was killed must not count
            constraints_func=lambda trial: [trial.user_attrs["excess"]],
        )

    def _trials(self, state: str) -> list[Any]:
        from optuna.trial import TrialState

        found: list[Any] = self._study.get_trials(deepcopy=False, states=[TrialState[state]])
        return found

    def _best(self) -> str:
        kept = [t.value for t in self._trials("COMPLETE") if t.user_attrs["excess"] <= 0]
        return f"best {max(kept):.4f}" if kept else "none keeps the budget yet"
