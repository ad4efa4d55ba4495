"""Networks that are trained on all training images: what they score, the features they see, and what they forget.

Each training is kept in a file of its own, so that it is done once, whatever is asked of it: the score of all images,
and the features and counts by which baselines select some of them.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attcli import runtime
from attcli.atomic import atomic
from attcli.data.inputs import Inputs
from attcli.data.normalise import chunk_size
from attcli.errors import DivergedError
from attcli.networks import Architecture
from attcli.scoring.begun import Begun, remove
from attcli.scoring.combined import as_met
from attcli.scoring.forgetting import Presentations
from attcli.scoring.networks import Networks
from attcli.scoring.protocol import Protocol
from attcli.scoring.real import Real
from attcli.store import npz
from attcli.store.files import set_aside
from attcli.store.hdf5 import BadFileError

PURPOSE = "whole"
"""The purpose in the keys of all draws of these trainings."""


@dataclass(frozen=True)
class Trained:
    """A finished training: its parameters (P,), and how often each training image was forgotten, i64 (N,)."""

    theta: Tensor
    forgotten: Tensor


@dataclass(frozen=True)
class Whole:
    """Trainings on all training images; the protocol's epochs are those of such a training, as is the rate `lr`."""

    real: Real
    networks: Networks
    protocol: Protocol
    lr: float
    seed: int
    folder: Path
    _readers: dict[Architecture, Callable[[Inputs], Tensor]] = field(default_factory=dict)

    def prepare(self, architecture: Architecture) -> None:
        """Make the step functions for an architecture; the execution follows from one training, not from how many."""
        one = self.real.train(torch.zeros(1, dtype=torch.long))
        images = one.expand(len(self.real.train_labels), *one.shape[1:])
        self.networks.prepare(architecture, images, self.protocol.batch, self.protocol.epochs)

    def kept(self, architecture: Architecture, repeat: int) -> Trained | None:
        """A training that is finished; a file that is damaged is set aside."""
        path = self._file(architecture, repeat)
        if not path.exists():
            return None
        try:
            kept = npz.read(path)
            theta, forgotten = torch.from_numpy(kept["theta"]), torch.from_numpy(kept["forgotten"])
            if len(forgotten) != len(self.real.train_labels) or theta.dtype != self.networks.dtype:
                raise BadFileError("it is of other images or of another precision")
        except (BadFileError, KeyError, TypeError) as error:
            set_aside(path, error)
            return None
        return Trained(theta.to(self.networks.device), forgotten)

    def trained(self, architecture: Architecture, repeat: int, stop: Callable[[], bool]) -> Trained:
        """A training: the one that is kept, or a new one, which then is."""
        spec = json.dumps(spec_of(architecture), sort_keys=True)
        identity = (PURPOSE, spec, str(repeat))
        if (finished := self.kept(architecture, repeat)) is not None:
            remove(self.folder, identity)  # what a process left that was killed just then
            return finished
        real = self.real
        images = real.whole()
        labels = real.train_labels.to(images.device)
        presentations = Presentations.of(len(labels), images.device)
        key = (self.seed, PURPOSE, repeat)
        every = torch.ones(len(labels), dtype=torch.bool, device=images.device)
        draws = runtime.stream(self.seed, f"{PURPOSE}-combined", repeat)
        seen, protocol = as_met(images, every, self.protocol, draws)
        begun = Begun(self.folder, identity, beside=vars(presentations), draws=[draws])
        theta = self.networks.trained(
            architecture, seen, labels, self.lr, protocol, key, stop, presentations.met, begun=begun
        )
        if not bool(theta.isfinite().all()):
            raise DivergedError("a training on all training images diverged; lower evaluate.whole_lr")
        result = Trained(theta, presentations.counts().cpu())
        with atomic(self._file(architecture, repeat)) as temporary, temporary.open("wb") as file:
            np.savez(file, theta=theta.cpu().numpy(), forgotten=result.forgotten.numpy())
        remove(self.folder, identity)
        return result

    def features(self, architecture: Architecture, indices: Tensor) -> Tensor:
        """What the last linear layer of the first repeat's network takes in, f64 (n, D) on the CPU.

        The images are taken some at a time, as all of a class may be too many for memory.
        """
        if architecture not in self._readers:
            finished = self.kept(architecture, 0)
            assert finished is not None
            self._readers[architecture] = self.networks.reader(architecture, finished.theta, self.real.whole())
        read, size = self._readers[architecture], chunk_size(self.real.test[0].shape[1:].numel())
        return torch.cat([read(self.real.train(part)) for part in indices.split(size)])

    def forgotten(self, architecture: Architecture, runs: int) -> Tensor:
        """How often each training image was forgotten, i64 (N,), in the first `runs` repeats together."""
        counts = torch.zeros(len(self.real.train_labels), dtype=torch.long)
        for repeat in range(runs):
            finished = self.kept(architecture, repeat)
            assert finished is not None
            counts += finished.forgotten
        return counts

    def _file(self, architecture: Architecture, repeat: int) -> Path:
        spec = json.dumps(spec_of(architecture), sort_keys=True)
        digest = hashlib.sha256(spec.encode()).hexdigest()[:8]
        return self.folder / f"{architecture.name}-{digest}-{repeat:04d}.npz"


def spec_of(architecture: Architecture) -> dict[str, Any]:
    """An architecture's name and options; the images' shape and classes are the dataset's."""
    return {"arch": architecture.name, **architecture.options}
