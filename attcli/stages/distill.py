"""distill: synthetic images are optimised until training on them retraces the experts' trajectories."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from loguru import logger
from torch import Tensor

from attcli import execution, runtime
from attcli.errors import DivergedError
from attcli.matching import engine
from attcli.matching.batches import Plan, SyntheticBatches, plan, probabilities
from attcli.matching.engine import Match
from attcli.matching.parameterisation import Pixels
from attcli.matching.select import SELECTORS
from attcli.matching.steps import Steps
from attcli.matching.window import WINDOWS
from attcli.progress import track
from attcli.settings import Evaluate, Settings
from attcli.stages import identity, initial, inputs, outcome
from attcli.stages.interrupt import deferred
from attcli.stages.run import Run, may_write
from attcli.store import artefact, dataset, experts, history, synthetic

SAVE_SECONDS = 300.0
"""Iterations that take long are saved this often, besides every `save_every` of them."""


def run(run: Run) -> None:
    """Distil until `iterations` updates are done, going on from the latest save of the same distillation."""
    settings = run.settings
    data = inputs.read_dataset(run)
    trajectories = inputs.open_experts(run, data)
    try:
        digest = trajectories.digest(settings.read_epochs)
        fingerprint, decisive = identity.distill(settings, data.sha256, digest)
        may_write(run, run.synthetic, synthetic.KIND, synthetic.MAKER, fingerprint, decisive)
        with run.working("distill", fingerprint) as folder:
            header = _header(settings, data, fingerprint, decisive)
            _distill(run, data, trajectories, header, folder)
    finally:
        trajectories.close()


def _header(
    settings: Settings, data: dataset.Dataset, fingerprint: str, decisive: dict[str, object]
) -> artefact.Header:
    protocol = {
        **identity.content(Evaluate(), "archs", "repeats", "lr", "random_lrs"),
        "augment": settings.distill.augment,
    }
    about = {
        **data.about,
        "dataset_sha256": data.sha256,
        "method": settings.distill.method,
        "ipc": settings.distill.ipc,
        "network": identity.network(settings.network),
        "protocol": protocol,
        "seed": settings.seed_of("distill"),
    }
    return artefact.Header(synthetic.KIND, fingerprint, decisive, about, runtime.versions())


def _distill(
    run: Run, data: dataset.Dataset, trajectories: experts.Experts, header: artefact.Header, folder: Path
) -> None:
    settings = run.settings
    wanted, save_every = settings.distill.iterations, settings.distill.save_every
    results = outcome.Outcome(run, data, header, folder)
    results.adopt()
    distiller = Distiller(settings, trajectories)
    found = results.resume(wanted)
    distiller.start(found or initial.begin(settings, data, trajectories, distiller.student, distiller.device))
    if found:
        logger.info("going on after iteration {} of {}", found.iteration, wanted)
    saved = time.monotonic()
    try:
        with closing(distiller), deferred() as stop, track("iterations", wanted, distiller.state.iteration) as progress:
            while distiller.state.iteration < wanted and not stop.asked:
                record = distiller.iterate()
                results.records.append(record)
                distiller.give_up()
                progress.advance(f"loss {record.loss:.4f}, step {record.step}, lr {record.lr:.5f}")
                now, done = time.monotonic(), distiller.state.iteration
                if done % save_every == 0 or done == wanted:
                    results.save(distiller.state)
                    saved = now
                elif now - saved > SAVE_SECONDS:
                    results.save_latest(distiller.state)
                    saved = now
                if run.out_of_time() and done < wanted:
                    logger.warning(
                        "stopped by the time limit after iteration {} of {}; run again to go on", done, wanted
                    )
                    break
    finally:
        results.finish(distiller.state)
    counts = {name: count for name, count in distiller.state.counts.items() if count}
    logger.info("{} after iteration {} {}", run.synthetic, distiller.state.iteration, counts or "")


class Drawn(NamedTuple):
    """What chance decides in an iteration, and the rows (2, P) of the expert's span."""

    expert: int
    start_epoch: int
    plan: Plan
    rows: Tensor


class Distiller:
    """The outer loop's body: one call of `iterate` is one update of the synthetic set."""

    def __init__(self, settings: Settings, trajectories: experts.Experts) -> None:
        self._settings = settings.distill
        self._runtime = settings.runtime
        self._seed = settings.seed_of("distill")
        self._trajectories = trajectories
        self._match = engine.load(settings.distill.engine)
        self._window = WINDOWS[settings.distill.window]
        self._parameterisation = Pixels()
        self._reader = ThreadPoolExecutor(1, "expert-rows")
        self._coming: dict[int, Future[Drawn]] = {}
        self._architecture = inputs.architecture(settings.network, trajectories.about)
        self.device = runtime.device(settings.runtime.device)
        execution.set_precision(settings.distill.precision)
        self.student = execution.student(self._architecture.build, self.device, settings.distill.precision)
        self.state: synthetic.State

    def start(self, state: synthetic.State) -> None:
        """Go on from a state, on the device; its images decide the shapes of the student's step functions."""
        self.state = replace(state, **{name: getattr(state, name).to(self.device) for name in synthetic.TENSORS})
        self._steps = self._made()

    def _made(self) -> Steps:
        """The student's step functions; the unroll engine has its own way through the network."""
        settings = self._settings
        if settings.engine == "unroll":
            return self.student
        images = self._parameterisation.images(self.state.images)
        batch = min(settings.batch_syn or len(images), len(images))
        work = execution.Work(
            image=tuple(images.shape[1:]),
            classes=self._architecture.classes,
            batch=batch,
            images=batch * settings.syn_steps * settings.iterations,
            filled_up=len(images) % batch > 0,
            derivatives=True,
            labels=settings.labels == "learned",
            dtype=images.dtype,
        )
        build, how = self._architecture.build, self._runtime
        return execution.steps(self.student, build, work, self.device, how.execution, how.micro_batch)

    def _ahead(self, iteration: int) -> Drawn:
        """What an iteration works on: expert, start epoch and the student's batches, from (seed, iteration) alone."""
        settings = self._settings
        generator = runtime.stream(self._seed, "iteration", iteration)
        expert = int(torch.randint(len(self._trajectories), (), generator=generator))
        last = settings.max_start_epoch
        current = settings.current_max_start_epoch or settings.min_start_epoch + 1
        first, end = self._window(settings.min_start_epoch, current, last, settings.expansion_end, iteration)
        start_epoch = int(torch.randint(first, end, (), generator=generator))
        images = len(self.state.labels)
        batch = settings.batch_syn or images
        drawn = plan(images, batch, settings.syn_steps, settings.augment, generator, short_first=True)
        rows = torch.from_numpy(self._trajectories.rows(expert, (start_epoch, start_epoch + settings.expert_epochs)))
        return Drawn(expert, start_epoch, drawn, rows.pin_memory() if self.device.type == "cuda" else rows)

    def _draw(self) -> Drawn:
        """The draws of this iteration, made while the one before it ran; the next one's are begun."""
        iteration = self.state.iteration
        coming = self._coming.pop(iteration, None) or self._reader.submit(self._ahead, iteration)
        found = coming.result()
        self._coming = {iteration + 1: self._reader.submit(self._ahead, iteration + 1)}
        return found

    def close(self) -> None:
        """Stop reading ahead."""
        self._reader.shutdown(cancel_futures=True)

    def _select(self, distances: Tensor) -> int:
        return SELECTORS[self._settings.select](distances, self._settings.select_metric)

    def _labels(self, images: Tensor, target: Tensor) -> Tensor:
        """The labels of this iteration: the set's own, or the target expert's logits for the images (TESLA)."""
        if self._settings.labels != "teacher":
            return self.state.labels
        with torch.no_grad():
            return torch.cat([self.student.logits(target, part) for part in images.split(initial.TOGETHER)])

    def iterate(self) -> history.Record:
        """Match one span of one expert and update the set, unless something in it is not finite."""
        begun = time.perf_counter()
        drawn = self._draw()
        images = self._parameterisation.images(self.state.images)
        start, target = drawn.rows.to(images, non_blocking=True)
        labels = self._labels(images, target)
        batches = SyntheticBatches(
            images,
            probabilities(labels, self._architecture.classes).to(images),
            drawn.plan.to(self.device),
            learned_labels=self._settings.labels == "learned",
        )
        match = self._match(self._steps, start, target, batches, self.state.lr, self._select)
        by_images, by_labels = batches.gradients()
        gradient = self._parameterisation.pull_back(self.state.images, by_images)
        accepted = self._update(match, gradient, labels, by_labels)
        l1, l2 = match.distances.cpu().numpy()
        return history.Record(
            iteration=self.state.iteration - 1,
            expert=drawn.expert,
            start_epoch=drawn.start_epoch,
            step=match.step,
            loss=float(match.loss),
            lr=float(self.state.lr),
            seconds=time.perf_counter() - begun,
            accepted=int(accepted),
            l1=l1,
            l2=l2,
        )

    def _update(self, match: Match, gradient: Tensor, labels: Tensor, by_labels: Tensor | None) -> bool:
        """Momentum SGD on the images, learned labels and the student's learning rate; then the EMA of the images.

        Nothing moves where something is not finite, or the loss is above the threshold.
        """
        settings, state = self._settings, self.state
        momentum_images = settings.momentum_img * state.momentum_images + gradient
        momentum_lr = settings.momentum_lr * state.momentum_lr + match.lr_gradient
        momentum_labels = state.momentum_labels
        images = state.images - settings.lr_img * momentum_images
        lr = state.lr - settings.lr_lr * momentum_lr
        if by_labels is not None:
            momentum_labels = settings.momentum_labels * momentum_labels + by_labels
            labels = labels - settings.lr_labels * momentum_labels
        finite = torch.stack([part.isfinite().all() for part in (match.loss, images, lr, labels)]).all()
        if not bool(finite):
            return self._skip()
        counts = {**state.counts, "skipped_in_a_row": 0}
        if settings.max_loss is not None and float(match.loss) > settings.max_loss:
            counts["rejected"] += 1
            self.state = replace(state, iteration=state.iteration + 1, counts=counts)
            return False
        if float(lr) < settings.min_lr:
            counts["lr_projected"] += 1
            lr = lr.clamp(min=settings.min_lr)
        self.state = replace(
            state,
            iteration=state.iteration + 1,
            images=images,
            labels=labels,
            lr=lr,
            ema=settings.ema_decay * state.ema + (1 - settings.ema_decay) * images,
            momentum_images=momentum_images,
            momentum_labels=momentum_labels,
            momentum_lr=momentum_lr,
            counts=counts,
        )
        return True

    def _skip(self) -> bool:
        """Count an update that is not finite."""
        state = self.state
        counts = dict(state.counts)
        counts["skipped"] += 1
        counts["skipped_in_a_row"] += 1
        self.state = replace(state, iteration=state.iteration + 1, counts=counts)
        logger.warning("iteration {}: not finite, skipped", state.iteration)
        return False

    def give_up(self) -> None:
        """DivergedError where too many updates in a row were not finite."""
        bad = self.state.counts["skipped_in_a_row"]
        if bad >= self._settings.max_bad_updates:
            raise DivergedError(
                f"{bad} updates in a row were not finite, the last at iteration {self.state.iteration - 1}; "
                f"lower distill.lr_img or distill.lr_init"
            )
