"""A training of a network that is scored, as it was at its last save: where it was stopped or killed, it goes on there.

It is saved between two passes: every few minutes, and on a CPU also when it is asked to stop.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from loguru import logger
from torch import Tensor

from attcli.errors import UnavailableError, UserError
from attcli.store import artefact
from attcli.store.results import Key
from attcli.trainers.training import Descends

KIND = "training"
MAKER = "attcli evaluate"

SAVE_SECONDS = 300.0
"""A training that takes longer is saved this often."""

OPTIMISER, BESIDE, DRAWS, TESTS = "optimiser/", "beside/", "draws/", "tests/"
CONFUSION = "confusion"
"""What is large in a test: it is saved as an array."""


def remove(folder: Path, key: Key) -> None:
    """Remove the trainings for a result that is kept, under this key."""
    for file in folder.glob(f"{_stem(key)}-*.h5"):
        file.unlink(missing_ok=True)


def _stem(key: Key) -> str:
    return f"training-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}"


@dataclass
class Begun:
    """Where a training is saved, and the tests that it has had on its way, which are saved with it.

    key: what its result is kept under, in a folder of results that depend on all else alike. number: which of the
    trainings for that result it is. is_kept: whether it is also saved when it is over, because its result waits for
    other trainings. beside: what else the training changes, in place, by name. draws: what else it draws from.
    """

    folder: Path
    key: Key
    number: int = 0
    is_kept: bool = False
    tests: list[dict[str, Any]] = field(default_factory=list)
    beside: Mapping[str, Tensor] = field(default_factory=dict)
    draws: Sequence[torch.Generator] = ()
    _saved: float = field(default_factory=time.monotonic)

    @property
    def _file(self) -> Path:
        return self.folder / f"{_stem(self.key)}-{self.number}.h5"

    def restore(self, theta: Tensor, optimiser: Descends, generator: torch.Generator) -> int:
        """Put theta (P,), the optimiser and the generator where they were at the last save; how many passes were done.

        A file that is damaged, or of another training, is not used; the training then starts at its beginning.
        UnavailableError where the system can't read it now; it stays.
        """
        if not self._file.exists():
            return 0
        try:
            header, arrays = artefact.read(self._file, KIND, MAKER)
            passes = int(header.about["passes"])
            tests = [dict(test) for test in header.about["tests"]]
            for number, test in enumerate(tests):
                if f"{TESTS}{number}" in arrays:
                    test[CONFUSION] = arrays[f"{TESTS}{number}"].tolist()
            kept = {name: torch.from_numpy(array) for name, array in arrays.items()}
            fits = header.fingerprint == self._fingerprint() and kept["theta"].shape == theta.shape
            artefact.require(self._file, MAKER, fits and kept["theta"].dtype == theta.dtype, "it is of another network")
            beside = {name: kept[BESIDE + name] for name in self.beside}
            draws = [kept[f"{DRAWS}{number}"] for number in range(len(self.draws))]
        except UnavailableError:
            raise
        except (UserError, KeyError, TypeError, ValueError) as error:
            logger.warning("a training that was begun is made anew: {}", error)
            return 0
        theta.copy_(kept["theta"])
        moments = {name.removeprefix(OPTIMISER): x for name, x in kept.items() if name.startswith(OPTIMISER)}
        optimiser.resume(theta, moments)
        generator.set_state(kept["generator"])
        for name, x in self.beside.items():
            x.copy_(beside[name])
        for own, state_of in zip(self.draws, draws, strict=True):
            own.set_state(state_of)
        self.tests[:] = tests
        return passes

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved >= SAVE_SECONDS

    def save(self, passes: int, theta: Tensor, optimiser: Descends, generator: torch.Generator) -> None:
        """Save the training after so many passes."""
        state: Mapping[str, Tensor] = {"theta": theta, "generator": generator.get_state()}
        state = {**state, **{OPTIMISER + name: x for name, x in optimiser.state().items()}}
        state = {**state, **{BESIDE + name: x.to(torch.int64) for name, x in self.beside.items()}}
        state = {**state, **{f"{DRAWS}{number}": own.get_state() for number, own in enumerate(self.draws)}}
        counted = {number: test[CONFUSION] for number, test in enumerate(self.tests) if CONFUSION in test}
        state = {**state, **{f"{TESTS}{number}": torch.tensor(matrix) for number, matrix in counted.items()}}
        tests = [{name: value for name, value in test.items() if name != CONFUSION} for test in self.tests]
        header = artefact.Header(KIND, self._fingerprint(), {}, {"passes": passes, "tests": tests}, {})
        artefact.write(self._file, header, {name: x.detach().cpu().numpy() for name, x in state.items()})
        self._saved = time.monotonic()

    def _fingerprint(self) -> str:
        return artefact.fingerprint(KIND, 2, {}, {"key": json.dumps(self.key), "number": str(self.number)})
