"""The evaluation protocols of dataset distillation: how a fresh network is trained on a set before it is tested.

A protocol is a record of numbers, and how the learning rate falls follows from its name; `NAMED` has those of the
literature. `training.py` trains by one, `testing.py` tests. Facts: the released codes of MTT, DATM, IDC and NCFM. What
could not be verified there is said in docs/scores.md.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from attcli.errors import UserError, brief


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
        "ncfm",
        2000,
        128,
        momentum=0.0,
        weight_decay=0.01,
        augment=UNCUT,
        rate=0.001,
        optimiser="adamw",
        cutmix=0.5,
        tests=100,
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


def _to_a_tenth(position: int, epochs: int) -> float:
    return 1.0 if position < epochs // 2 else 0.1


FALLS: Mapping[str, Callable[[int, int], float]] = {
    "adam": lambda position, epochs: 1.0,
    "idc": lambda position, epochs: 0.2 ** ((position >= 2 * epochs // 3) + (position >= 5 * epochs // 6)),
    "selmatch": lambda position, epochs: LEAST + (1 - LEAST) * (1 + math.cos(math.pi * position / epochs)) / 2,
    "ncfm": lambda position, epochs: 0.5 ** (5 * position // epochs),
}
"""How the learning rate falls, by the name of a protocol: its factor in a pass (from 0) of so many; for others, a tenth
from the midpoint on."""


def schedule(protocol: Protocol) -> Iterator[tuple[float, bool]]:
    """For every pass, the learning rate's factor and whether the optimiser starts afresh with this pass.

    exact: `epochs` passes, from the midpoint on a tenth. released: what the literature's code does when asked for 1000:
    1001 passes, a tenth after 502, with the momentum set to zero there. adam: always the same. idc: a fifth from
    two thirds on, and a fifth of that from five sixths on. selmatch: along half a cosine to a hundredth. ncfm: halved
    after each fifth.
    """
    epochs = protocol.epochs
    if protocol.name == "released":
        drop = epochs // 2 + 2
        yield from ((1.0 if position < drop else 0.1, position == drop) for position in range(epochs + 1))
        return
    factor = FALLS.get(protocol.name, _to_a_tenth)
    yield from ((factor(position, epochs), False) for position in range(epochs))
