"""What a network computes of each class's real images, and of the set's: the means of its features and other layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from attcli.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from attcli.matching.batches import SyntheticBatches
    from attcli.objectives import Inputs, classwise

T = TypeVar("T")


class Tapped:
    """The taps of the student's network (`attcli.matching.features`): its features, after its activations if asked for.

    Batches are taken in slices, but whole, with all classes, where the network normalises over the batch. Slices are
    halved where the memory is too small for them, unless processes share the work: none of them may choose by itself.
    """

    def __init__(self, inputs: Inputs, classes: classwise.Classes, *, activations: bool = False) -> None:
        import torch

        from attcli.execution import Work, room, slices
        from attcli.matching.features import NoFeaturesError, Taps
        from attcli.matching.parameters import vector
        from attcli.matching.student import has_batch_statistics

        self._classes, self._team = classes, inputs.team
        like, student = inputs.images, inputs.student
        size = (tuple(like.shape[1:]), classes.count, classes.real_batch)
        self._together = has_batch_statistics(student.module)
        if self._together:  # refuses slices
            whole = Work(size[0], classes.count, classes.count * classes.real_batch, images=1)
            slices(student, inputs.execution.micro_batch, like.device, whole)
        self._room = (
            None if self._together else room(student, inputs.execution.micro_batch, like.device, Work(*size, images=1))
        )
        try:
            self._taps = Taps.of(student, torch.zeros_like(like[:2]), activations=activations)
        except NoFeaturesError:
            raise UserError(
                f"the network {inputs.architecture.name} does not end in a linear layer, whose inputs are its "
                f"features; choose another one, such as --set network.arch=convnet"
            ) from None
        theta, two = vector(student.module).to(like), torch.zeros_like(like[:2])
        self.layers = len(self._taps.read(theta, two, 2)) - 1  # a layer counts whenever it is met, if it is

    def _fitting(self, act: Callable[[int], T], whole: int) -> T:
        """What `act` returns for the number of images that are taken at a time; `whole` is all of them."""
        if self._room is None:
            return act(whole)
        return act(self._room.size) if self._team.size > 1 else self._room.fitting(act)

    def _read(self, theta: Tensor, x: Tensor) -> list[Tensor]:
        return self._fitting(lambda size: self._taps.read(theta, x, size), len(x))

    def of_real(self, theta: Tensor, drawn: classwise.Drawn, of_class: Callable[[int, list[Tensor]], Tensor]) -> Tensor:
        """A row (n,) for each class, as (K, n): what `of_class` makes of it and the taps (R, D) of its real images.

        The processes of the team share the classes.
        """
        import torch

        count, size = self._classes.count, self._team.size
        if self._together:
            images = [self._real(drawn, c) for c in range(count)]
            taps = self._read(theta, torch.cat(images))
            by_class = zip(*(tap.split([len(x) for x in images]) for tap in taps), strict=True)
            return torch.stack([of_class(c, list(own)) for c, own in enumerate(by_class)])
        mine = list(range(self._team.rank, count, size)) or [0]  # one that no other process looks at
        rows = [of_class(c, self._read(theta, self._real(drawn, c))) for c in mine]
        if size == 1:
            return torch.stack(rows)
        turns = -(-count // size)
        gathered = self._team.gathered(torch.stack([*rows, *rows[:1] * (turns - len(rows))]))
        return torch.stack([gathered[c % size][c // size] for c in range(count)])

    def _real(self, drawn: classwise.Drawn, c: int) -> Tensor:
        count = int(drawn.weights[c].count_nonzero())  # those that fill a class up come last; no GPU is waited for
        return self._classes.of_real(drawn, c).x[:count]

    def of_set(self, theta: Tensor, x: Tensor) -> list[Tensor]:
        """The means (K, D) of each tap over the set's images x (K S, C, H, W) of each class."""
        taps = self._read(theta, x)
        return [tap.view(self._classes.count, -1, tap.shape[1]).mean(dim=1) for tap in taps]

    def answers(self, theta: Tensor, x: Tensor) -> Tensor:
        """The classes (B,) that the network takes images (B, C, H, W) for."""
        import torch

        def read(size: int) -> Tensor:
            with torch.no_grad():
                parts = [self._taps.student.logits(theta, part).argmax(dim=1) for part in x.split(size)]
            return torch.cat(parts)

        return self._fitting(read, len(x))

    def pull_back(self, theta: Tensor, x: Tensor, batches: SyntheticBatches, of_means: list[Tensor]) -> None:
        """Give the batches the derivatives in their images x (K S, C, H, W), from those in the taps' means (K, D)."""
        import torch

        each = len(x) // self._classes.count

        def seeds(first: int, end: int) -> list[Tensor]:
            of = torch.arange(first, end, device=x.device) // each
            return [derivative[of] / each for derivative in of_means]

        by_images = self._fitting(lambda size: self._taps.pulled_back(theta, x, seeds, size), len(x))
        for c, part in enumerate(by_images.split(each)):
            batches.pull_back(c, part, None)
