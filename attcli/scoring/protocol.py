"""The evaluation protocol of dataset distillation: a fresh network, trained on the set, accuracy on real images.

A protocol is a record of numbers; `NAMED` has those of the literature. Facts: the released codes of MTT, DATM, IDC and
NCFM. What could not be verified there is said in docs/scores.md.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from attcli import runtime
from attcli.data.inputs import Inputs, at_a_time, in_batches
from attcli.errors import UserError, brief
from attcli.matching.balanced import cyclic
from attcli.matching.batches import SyntheticBatches, probabilities
from attcli.matching.parameters import vector
from attcli.matching.step_functions import StepFunctions
from attcli.matching.student import Student
from attcli.matching.students import Sgd
from attcli.networks import Architecture
from attcli.scoring.begun import Begun
from attcli.trainers.training import AdamW, Descends, Optimiser, train_epoch

TEST_BATCH = {"cpu": 10, "cuda": 1000}
"""Images that are tested at a time: on a CPU few, in channels_last, so that their activations stay in the caches."""

_LAYOUT = {"cpu": torch.channels_last, "cuda": torch.contiguous_format}


@dataclass(frozen=True)
class Protocol:
    """The protocol's numbers, by default the literature's; `name` says how the learning rate falls (`schedule`).

    rate: the learning rate, None for the one that was learned with the set. optimiser: sgd or adamw. cutmix: the
    probability that images of a batch are mixed. tests: after how many passes a network is tested, of which the largest
    result counts; None where the last network alone is tested. rates: where the steps of a set's distillation are made
    again, the learning rate of each of them; start: the seed of the network that all of them start from, if it is one.
    combined: whether images that were not distilled are augmented in a way of their own (`attcli.scoring.combined`).
    """

    name: str = "exact"
    epochs: int = 1000
    batch: int = 256
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: str = "color_crop_cutout_flip_scale_rotate"
    rate: float | None = None
    optimiser: str = "sgd"
    cutmix: float = 0.0
    tests: int | None = None
    rates: tuple[float, ...] = ()
    start: int | None = None
    combined: bool = False

    def stated(self) -> dict[str, Any]:
        """Its numbers by name, without those that most protocols do without: what identities and reports hold."""
        numbers = asdict(self)
        return {name: numbers[name] for name in numbers if name in NUMBERS or numbers[name] != getattr(EXACT, name)}


NUMBERS = ("name", "epochs", "batch", "momentum", "weight_decay", "augment")
"""What every protocol states."""

EXACT = Protocol()
UNCUT = "flip+color+crop_scale_rotate"
"""What IDC and NCFM augment with beside CutMix, which takes the place of the cutout."""

NAMED: Mapping[str, Protocol] = {
    "exact": EXACT,
    "released": Protocol("released"),
    "adam": Protocol("adam", momentum=0.0, weight_decay=0.0, optimiser="adamw"),
    "replay": Protocol("replay", epochs=1, momentum=0.0, weight_decay=0.0),
    "honest": EXACT,
    "mtt": Protocol("released"),
    "datm": Protocol("released", batch=128),
    "idc": Protocol("idc", batch=64, augment=UNCUT, rate=0.01, cutmix=0.5),
    "selmatch": Protocol("selmatch", batch=128, rate=0.1, combined=True),
    "ncfm": Protocol(
        "ncfm", 2000, 128, momentum=0.0, augment=UNCUT, rate=0.001, optimiser="adamw", cutmix=0.5, tests=100
    ),
}
"""The protocols that have a name. Those of the literature are taken whole, whatever a set's file says."""

OWN = ("exact", "released", "adam")
"""Names that only say the optimiser and how its learning rate falls; a set's file says the rest."""


OF_OPTIMISER = ("momentum", "weight_decay")
"""Numbers that are meant for the optimiser of the protocol that states them."""


def same_optimiser(name: str | None, other: str | None) -> bool:
    """Whether two protocols train with the same optimiser; None is the one that is taken where none is named."""
    known = [NAMED.get(protocol or EXACT.name, EXACT) for protocol in (name, other)]
    return known[0].optimiser == known[1].optimiser


LEAST = 0.01
"""The factor at which SelMatch's cosine ends."""


def protocol_of(name: str | None, numbers: Mapping[str, Any], asked: Mapping[str, Any]) -> Protocol:
    """The protocol of a name with the `numbers` of a set's file and those that were `asked` for; None means not said.

    A protocol of the literature takes only what was asked for. UserError for a name that is none.
    """
    if name is not None and name not in NAMED:
        raise UserError(
            f"the set asks for the protocol {brief(name)}, which this attcli does not know; upgrade attcli, or score "
            f"the set by another one, as with --protocol exact"
        )
    own = name is None or name in OWN
    changes = {**(numbers if own else {}), **{key: value for key, value in asked.items() if value is not None}}
    return replace(NAMED[name or "exact"], **{key: value for key, value in changes.items() if value is not None})


def schedule(protocol: Protocol) -> Iterator[tuple[float, bool]]:
    """For every pass, the learning rate's factor and whether the optimiser starts afresh with this pass.

    exact: `epochs` passes, from the midpoint on a tenth. released: what the literature's code does when asked for 1000:
    1001 passes, a tenth after 502, with the momentum set to zero there. adam: always the same. idc: a fifth from
    two thirds on, and a fifth of that from five sixths on. selmatch: along half a cosine to a hundredth. ncfm: halved
    after each fifth.
    """
    epochs, released = protocol.epochs, protocol.name == "released"
    for position in range(epochs + released):
        if protocol.name == "idc":
            yield 0.2 ** ((position >= 2 * epochs // 3) + (position >= 5 * epochs // 6)), False
        elif protocol.name == "selmatch":
            yield LEAST + (1 - LEAST) * (1 + math.cos(math.pi * position / epochs)) / 2, False
        elif protocol.name == "ncfm":
            yield 0.5 ** (5 * position // epochs), False
        elif protocol.name == "adam":
            yield 1.0, False
        else:
            drop = epochs // 2 + 2 if released else epochs // 2
            yield (1.0 if position < drop else 0.1), (released and position == drop)


COMBINED = "evaluate-combined"
"""What the draws of images that are augmented in a way of their own are seeded for."""

FIXED_STUDENT = "real-loss-student"
"""What the initial network of students that all start alike is seeded for."""


class StoppedError(Exception):
    """A training was asked to stop before its end."""


def built(architecture: Architecture, key: tuple[int, str, int], start: int | None = None) -> nn.Module:
    """The initial network of a key (seed, purpose, repeat).

    With the seed `start`, it is the one that a distillation's students of `student_start=fixed` begin as.
    """
    seed, purpose, repeat = key
    if start is not None:
        return runtime.seeded(architecture.build, start, FIXED_STUDENT)
    return runtime.seeded(architecture.build, seed, f"{purpose}-weights", repeat)


def fresh(architecture: Architecture, key: tuple[int, str, int], start: int | None = None) -> Tensor:
    """The parameters (P,) of the initial network of a key, as `built` says."""
    return vector(built(architecture, key, start))


def train(
    step_functions: StepFunctions,
    theta: Tensor,
    images: Inputs,
    labels: Tensor,
    classes: int,
    lr: float,
    protocol: Protocol,
    key: tuple[int, str, int],
    stop: Callable[[], bool] = lambda: False,
    met: Callable[[Tensor, Tensor], None] | None = None,
    after: Callable[[int, Tensor], None] | None = None,
    begun: Begun | None = None,
) -> Tensor:
    """Theta (P,), updated in place by training on images (n, C, H, W) with labels (n,) or logits (n, K).

    `key` is (seed, purpose, repeat): it alone decides orders and augmentation, as it does the initial weights, so
    different sets are met by the same networks, however many are trained. StoppedError where `stop` says so. `met` is
    told of every batch, as `train_epoch` says; `after`, after each pass, how many there were, and theta. `begun`: where
    the training goes on, and is saved.
    """
    seed, purpose, repeat = key
    generator = runtime.stream(seed, f"{purpose}-training", repeat)
    if protocol.rates:
        return _replay(step_functions, theta, images[torch.arange(len(images))], labels, classes, protocol, generator)
    optimiser: Descends = (
        AdamW(lr, protocol.weight_decay)
        if protocol.optimiser == "adamw"
        else Optimiser(lr, protocol.momentum, protocol.weight_decay)
    )
    done = begun.restore(theta, optimiser, generator) if begun is not None else 0
    planned = list(schedule(protocol))
    for passes, (factor, afresh) in enumerate(planned, 1):
        if passes <= done:
            continue
        stopped = stop()
        if begun is not None and passes > done + 1 and (stopped or begun.due):
            begun.save(passes - 1, theta, optimiser, generator)
        if stopped:
            raise StoppedError
        optimiser.lr = lr * factor
        if afresh:
            optimiser.restart()
        train_epoch(
            step_functions,
            theta,
            optimiser,
            images,
            labels,
            classes=classes,
            batch=protocol.batch,
            strategy=protocol.augment,
            generator=generator,
            met=met,
            cutmix=protocol.cutmix,
        )
        if after is not None:
            after(passes, theta)
    if begun is not None and begun.is_kept and done < len(planned):
        begun.save(len(planned), theta, optimiser, generator)
    return theta


def _replay(
    step_functions: StepFunctions,
    theta: Tensor,
    images: Tensor,
    labels: Tensor,
    classes: int,
    protocol: Protocol,
    generator: torch.Generator,
) -> Tensor:
    """Theta (P,), updated in place by the steps that students of the distillation made, each at its own rate (DD)."""
    count, batch, n_steps = len(images), min(protocol.batch, len(images)), len(protocol.rates)
    plan = cyclic(count, classes, batch, n_steps, protocol.augment, generator).to(images.device)
    batches = SyntheticBatches(images, probabilities(labels, classes).to(images), plan)
    return theta.copy_(Sgd().train(step_functions, theta, batches, theta.new_tensor(protocol.rates)))


def _answers(student: Student, theta: Tensor, images: Inputs) -> Tensor:
    """The classes (N,) that a network takes images (N, C, H, W) for."""
    size, layout = at_a_time(images, TEST_BATCH[images.device.type]), _LAYOUT[images.device.type]
    with torch.no_grad():
        parts = in_batches(images, size)
        return torch.cat([student.logits(theta, x.contiguous(memory_format=layout)).argmax(dim=1) for x in parts])


def accuracy(student: Student, theta: Tensor, images: Inputs, labels: Tensor) -> float:
    """The share of images (N, C, H, W) classified as labelled (N,), in percent."""
    return 100 * int((_answers(student, theta, images) == labels).sum()) / len(labels)


def confusion(student: Student, theta: Tensor, images: Inputs, labels: Tensor, classes: int) -> Tensor:
    """How many images of each class are taken for which, i64 (K, K) on the CPU: a row for each true class."""
    pairs = labels * classes + _answers(student, theta, images)
    return torch.bincount(pairs.cpu(), minlength=classes**2).view(classes, classes)


def last_linear(module: nn.Module, classes: int) -> nn.Linear:
    """A network's last linear layer. UserError where it does not end in one with an output for each class."""
    linear = [part for part in module.modules() if isinstance(part, nn.Linear) and part.out_features == classes]
    if not linear:
        raise UserError(
            "the network that images are selected by does not end in a linear layer, whose inputs are its features; "
            "choose another one: --set evaluate.whole_arch=convnet"
        )
    return linear[-1]


def features(student: Student, theta: Tensor, images: Inputs, classes: int) -> Tensor:
    """What the last linear layer takes in for images (N, C, H, W), f64 (N, D) on the CPU. UserError without one."""
    taken_in: list[Tensor] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        taken_in.append(inputs[0].flatten(1).double().cpu())

    handle = last_linear(student.module, classes).register_forward_pre_hook(note)
    try:
        _answers(student, theta, images)
    finally:
        handle.remove()
    return torch.cat(taken_in)
