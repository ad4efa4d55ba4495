"""One update of a synthetic set: a step of the outer optimiser on every learned tensor, or none and the reason."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from loguru import logger
from torch import Tensor
from torch.nn.functional import softplus

from attcli.coding import Coding
from attcli.errors import DivergedError
from attcli.matching import outer
from attcli.matching.outer import Pace
from attcli.objectives import Slope
from attcli.options import share_of
from attcli.parameterisations import Coded
from attcli.settings import Distill, Settings
from attcli.settings.choices import read_by
from attcli.store.states import BESIDE, FROZEN, LABELS, LOGITS, LR, RATES, State, Tensors

COUNTS = ("lr_projected", "skipped", "skipped_in_a_row", "rejected", "rejected_in_a_row")


def first(
    settings: Distill,
    learned: Tensors,
    constants: Tensors,
    averaged: Mapping[str, Tensor],
    scales: dict[str, dict[str, Tensor]],
) -> State:
    """The state before the first iteration: nothing has moved, and averages are those of the numbers themselves."""
    optimiser = outer.OPTIMISERS[settings.optimiser]()
    return State(
        iteration=0,
        learned=learned,
        constants=constants,
        averages={name: x.clone() for name, x in averaged.items()},
        moments={name: optimiser.begin(x) for name, x in learned.items()},
        counts=dict.fromkeys(COUNTS, 0),
        scales=scales,
    )


def first_rates(settings: Settings, lr: Tensor, of_steps: Tensor | None = None) -> Tensors:
    """The learning rate of students, a scalar, and those of each of their steps (N,) where they have some.

    These begin as `of_steps`, if there are as many, else as lr.
    """
    if not settings.has_rates:
        return {LR: lr}
    count = settings.distill.syn_steps
    if of_steps is None or len(of_steps) != count:
        of_steps = lr.expand(count)
    return {LR: of_steps.mean(), RATES: of_steps.expm1().log()}


def frozen(settings: Distill, coding: Coding, classes: int) -> Tensors:
    """The constant that says which images stay as they are (SelMatch): of each class the first ones, in whole units.

    Empty where all are moved; of each class at least one unit is.
    """
    if settings.distilled_share == 1:
        return {}
    each = coding.parameterisation.images_per_unit
    units = coding.images_per_class(settings.ipc) // each
    moved = max(1, share_of(settings.distilled_share, units))
    of_class = (torch.arange(units) < units - moved).repeat_interleave(each)
    return {FROZEN: of_class.to(torch.uint8).repeat(classes)}


class Updates:
    """Applies slopes to states, by the settings of `distill`.

    A matching loss above `max_loss` rejects the update (DATM). What is not finite skips it. In both cases nothing
    moves, and what the objective remembers stays as it was. Frozen images never move, nor do their learned labels.
    """

    def __init__(self, settings: Distill, coding: Coding) -> None:
        self._settings, self._coding = settings, coding
        self._optimiser = outer.OPTIMISERS[settings.optimiser]()
        self._paces = {
            LR: Pace(settings.lr_lr, settings.momentum_lr),
            RATES: Pace(settings.lr_lr, settings.momentum_lr),
            LOGITS: Pace(settings.lr_labels, settings.momentum_labels),
        }
        self._images_pace = Pace(settings.lr_img, settings.momentum_img)
        self._max_loss = settings.max_loss if "distill.max_loss" in read_by(settings.objective) else None

    def apply(self, state: State, slope: Slope) -> tuple[State, bool]:
        """The state after the iteration, and whether its tensors have moved."""
        settings = self._settings
        gradients = {**self._coding.pull_back(state.coded(), state.scales, slope.images), LR: slope.lr}
        if RATES in state.learned:  # of which lr is the mean
            gradients |= {RATES: slope.lr * state.learned[RATES].sigmoid(), LR: torch.zeros_like(state.lr)}
        if slope.logits is not None:
            gradients[LOGITS] = self._coding.pull_back_labels(state.labels, state.scales.get(LOGITS, {}), slope.logits)
        paces = {name: self._pace(name, state.iteration) for name in state.learned}
        learned, moments = outer.step(self._optimiser, state.learned, gradients, state.moments, paces)
        kept = [*learned.values(), *slope.memory.values()]
        checks = torch.stack([slope.loss.isfinite(), *(x.isfinite().all() for x in kept)])
        loss_finite, *tensors_finite = checks.tolist()
        if loss_finite and self._max_loss is not None and float(slope.loss) > self._max_loss:
            return self._counted(state, "rejected"), False
        if not (loss_finite and all(tensors_finite)):
            logger.warning("iteration {}: not finite, skipped", state.iteration)
            return self._counted(state, "skipped"), False
        counts = {**state.counts, "skipped_in_a_row": 0, "rejected_in_a_row": 0}
        if RATES in learned:
            lowest = settings.min_lr + math.log(-math.expm1(-settings.min_lr))  # whose softplus is min_lr
            counts["lr_projected"] += int((learned[RATES] < lowest).any())
            learned[RATES] = learned[RATES].clamp(min=lowest)
            learned[LR] = softplus(learned[RATES]).mean()
        elif float(learned[LR]) < settings.min_lr:
            counts["lr_projected"] += 1
            learned[LR] = learned[LR].clamp(min=settings.min_lr)
        coded = Coded({name: learned[name] for name in state.averages}, state.coded().constants)
        of_images = {**self._coding.parameterisation.project(coded).learned}
        if LOGITS in learned:
            of_images[LOGITS] = learned[LOGITS]
        learned |= self._held(state, state.learned, of_images)
        averages = {n: self._averaged(average, learned[n]) for n, average in state.averages.items()}
        iteration = state.iteration + 1
        constants = {**state.constants, **({} if LOGITS in learned else {LABELS: slope.labels})}
        moved = replace(
            state,
            iteration=iteration,
            learned=learned,
            constants=constants,
            averages=self._held(state, state.averages, averages),
            moments=moments,
            counts=counts,
            scales={**state.scales, **self._refitted(learned, iteration)},
            memory=dict(slope.memory),
        )
        return moved, True

    def _pace(self, name: str, iteration: int) -> Pace:
        """How fast a learned tensor moves: its rate is halved after every so many iterations."""
        pace, every = self._paces.get(name, self._images_pace), self._settings.halve_every
        return pace if every is None else replace(pace, rate=pace.rate * 0.5 ** (iteration // every))

    def _held(self, state: State, before: Tensors, after: Tensors) -> Tensors:
        """The tensors after an update, those of frozen images and their labels as they were before."""
        if FROZEN not in state.constants:
            return after
        images = state.constants[FROZEN].bool()
        units = images.view(-1, self._coding.parameterisation.images_per_unit)[:, 0]
        masks = {
            name: (images if name == LOGITS else units).view(-1, *(1,) * (x.dim() - 1)) for name, x in after.items()
        }
        return {name: torch.where(masks[name], before[name], x) for name, x in after.items()}

    def _refitted(self, learned: Mapping[str, Tensor], iteration: int) -> dict[str, dict[str, Tensor]]:
        """The scales that are fitted anew after so many iterations."""
        scales = {}
        if self._coding.storage.refits(iteration):
            scales = self._coding.fit({name: x for name, x in learned.items() if name not in BESIDE})
        kept_as = self._coding.label_storage
        if LOGITS in learned and kept_as and kept_as.refits(iteration):
            scales[LOGITS] = self._coding.fit_labels(learned[LOGITS])
        return scales

    def _averaged(self, average: Tensor, x: Tensor) -> Tensor:
        return outer.averaged(average, x, self._settings.ema_decay)

    def _counted(self, state: State, what: str) -> State:
        """The same tensors after an iteration that moved nothing."""
        counts = {**state.counts}
        counts[what] += 1
        counts[f"{what}_in_a_row"] += 1
        if what == "rejected":
            counts["skipped_in_a_row"] = 0
            if counts["rejected_in_a_row"] % self._settings.max_bad_updates == 0:
                logger.warning(
                    "{} updates in a row were rejected: their loss was above distill.max_loss {}; raise it, or lower "
                    "distill.lr_img or distill.lr_init",
                    counts["rejected_in_a_row"],
                    self._settings.max_loss,
                )
        iteration = state.iteration + 1
        scales = {**state.scales, **self._refitted(state.learned, iteration)}
        return replace(state, iteration=iteration, counts=counts, scales=scales)

    def give_up(self, state: State) -> None:
        """DivergedError where too many updates in a row were not finite."""
        bad = state.counts["skipped_in_a_row"]
        if bad >= self._settings.max_bad_updates:
            raise DivergedError(
                f"{bad} updates in a row were not finite, the last at iteration {state.iteration - 1}; "
                f"lower distill.lr_img or distill.lr_init"
            )
