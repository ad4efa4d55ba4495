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

from attcli import execution, methods, runtime
from attcli.data.loader import of_each_class
from attcli.errors import UserError
from attcli.matching import engine
from attcli.matching.batches import Plan, SyntheticBatches, plan, probabilities
from attcli.matching.engine import Match
from attcli.matching.parameterisation import Pixels
from attcli.matching.steps import Steps
from attcli.networks import Architecture
from attcli.progress import track
from attcli.settings import Evaluate, Settings
from attcli.stages import buffer, outcome
from attcli.stages.interrupt import deferred
from attcli.stages.run import Run, content, may_write
from attcli.store import artefact, dataset, experts, history, synthetic

ALGORITHM = 1
SAVE_SECONDS = 300.0
"""Iterations that take long are saved this often, besides every `save_every` of them."""


def identity(settings: Settings, data_sha256: str, experts_digest: str) -> tuple[str, dict[str, object]]:
    """The fingerprint of a distillation, and the settings that it hashes; how long it runs is no part of it."""
    chosen: dict[str, object] = {
        "distill": {
            **content(settings.distill, "iterations", "save_every", "max_bad_updates"),
            "seed": settings.seed_of("distill"),
            "experts": settings.buffer.experts,
        },
        "network": buffer.spec(settings.network),
    }
    inputs = {"dataset": data_sha256, "experts": experts_digest}
    return artefact.fingerprint("distill", ALGORITHM, chosen, inputs), chosen


def run(run: Run) -> None:
    """Distil until `iterations` updates are done, going on from the latest save of the same distillation."""
    settings = run.settings
    data = buffer.read_dataset(run)
    if run.auto:
        buffer.run(run)
    trajectories = experts.open_experts(run.experts, settings.buffer.experts)
    try:
        for header in trajectories.headers:
            buffer.compatible(run, header, data)
        if trajectories.epochs < settings.matched_epochs:
            raise UserError(
                f"the experts in {run.experts} have {trajectories.epochs} epochs, matching reads "
                f"{settings.matched_epochs}; run `{experts.MAKER}`"
            )
        fingerprint, chosen = identity(settings, data.sha256, trajectories.digest(settings.matched_epochs))
        may_write(run, run.synthetic, synthetic.KIND, synthetic.MAKER, fingerprint, chosen)
        with run.working("distill", fingerprint) as folder:
            header = _header(settings, data, fingerprint, chosen)
            _distill(run, data, trajectories, header, folder)
    finally:
        trajectories.close()


def _header(settings: Settings, data: dataset.Dataset, fingerprint: str, chosen: dict[str, object]) -> artefact.Header:
    protocol = {**content(Evaluate(), "archs", "repeats", "random_lrs"), "augment": settings.distill.augment}
    about = {
        **data.about,
        "dataset_sha256": data.sha256,
        "method": settings.distill.method,
        "ipc": settings.distill.ipc,
        "network": buffer.spec(settings.network),
        "protocol": protocol,
        "seed": settings.seed_of("distill"),
    }
    return artefact.Header(synthetic.KIND, fingerprint, dict(chosen), about, runtime.versions())


def _distill(
    run: Run, data: dataset.Dataset, trajectories: experts.Experts, header: artefact.Header, folder: Path
) -> None:
    settings = run.settings
    wanted, save_every = settings.distill.iterations, settings.distill.save_every
    results = outcome.Outcome(run, data, header, folder)
    results.adopt()
    found = results.resume(wanted)
    state = found or _begin(settings, data)
    if found:
        logger.info("going on after iteration {} of {}", state.iteration, wanted)
    distiller = Distiller(settings, trajectories, state)
    begun = saved = time.monotonic()
    try:
        with closing(distiller), deferred() as stop, track("iterations", wanted, state.iteration) as progress:
            while distiller.state.iteration < wanted and not stop.asked:
                record = distiller.iterate()
                results.records.append(record)
                progress.advance(f"loss {record.loss:.4f}, step {record.step}, lr {record.lr:.5f}")
                now, done = time.monotonic(), distiller.state.iteration
                if done % save_every == 0 or done == wanted:
                    results.save(distiller.state)
                    saved = now
                elif now - saved > SAVE_SECONDS:
                    results.save_latest(distiller.state)
                    saved = now
                if run.time_limit and now - begun > run.time_limit and done < wanted:
                    logger.warning(
                        "stopped by the time limit after iteration {} of {}; run again to go on", done, wanted
                    )
                    break
    finally:
        results.finish(distiller.state)
    counts = {name: count for name, count in distiller.state.counts.items() if count}
    logger.info("{} after iteration {} {}", run.synthetic, distiller.state.iteration, counts or "")


def _begin(settings: Settings, data: dataset.Dataset) -> synthetic.State:
    """The state before the first iteration: images class by class, real ones or noise."""
    distill, seed = settings.distill, settings.seed_of("distill")
    classes = len(data.about["classes"])
    labels = torch.arange(classes).repeat_interleave(distill.ipc)
    generator = runtime.stream(seed, "initial-images")
    if distill.init == "real":
        try:
            chosen = of_each_class(data.labels["train"], [distill.ipc] * classes, generator)
        except ValueError as error:
            raise UserError(f"{error} of distill.ipc; lower it or set distill.init=noise") from None
        images = data.inputs("train", chosen)
    else:
        shape = (len(labels), data.about["channels"], data.about["resolution"], data.about["resolution"])
        images = torch.randn(shape, generator=generator)
    return synthetic.State(
        iteration=0,
        images=images,
        labels=labels,
        lr=torch.tensor(distill.lr_init),
        ema=images.clone(),
        momentum_images=torch.zeros_like(images),
        momentum_lr=torch.zeros(()),
        counts={"lr_projected": 0, "skipped": 0, "skipped_in_a_row": 0},
    )


class Drawn(NamedTuple):
    """What chance decides in an iteration, and the rows (2, P) of the expert's span."""

    expert: int
    start_epoch: int
    plan: Plan
    rows: Tensor


class Distiller:
    """The outer loop's body: one call of `iterate` is one update of the synthetic set."""

    def __init__(self, settings: Settings, trajectories: experts.Experts, state: synthetic.State) -> None:
        self._settings = settings.distill
        self._seed = settings.seed_of("distill")
        self._trajectories = trajectories
        self._method = methods.load(settings.distill.method)
        self._match = engine.load(settings.distill.engine)
        self._device = runtime.device(settings.runtime.device)
        architecture = buffer.architecture(settings.network, trajectories.about)
        self._classes = architecture.classes
        self._parameterisation = Pixels()
        self._steps = self._made(architecture, settings, state)
        self._reader = ThreadPoolExecutor(1, "expert-rows")
        self._coming: dict[int, Future[Drawn]] = {}
        tensors = {name: getattr(state, name).to(self._device) for name in synthetic.TENSORS}
        self.state = replace(state, **tensors)

    def _made(self, architecture: Architecture, settings: Settings, state: synthetic.State) -> Steps:
        """The student's step functions; the unroll engine has its own way through the network."""
        distill, chosen = settings.distill, settings.runtime
        execution.set_precision(distill.precision)
        student = execution.student(architecture.build, self._device, distill.precision)
        if distill.engine == "unroll":
            return student
        images = self._parameterisation.images(state.images)
        batch = min(distill.batch_syn or len(images), len(images))
        work = execution.Work(
            image=tuple(images.shape[1:]),
            classes=self._classes,
            batch=batch,
            images=batch * distill.syn_steps * distill.iterations,
            filled_up=len(images) % batch > 0,
            derivatives=True,
        )
        return execution.steps(student, architecture.build, work, self._device, chosen.execution, chosen.micro_batch)

    def _ahead(self, iteration: int) -> Drawn:
        """What an iteration works on: expert, start epoch and the student's batches, from (seed, iteration) alone."""
        settings = self._settings
        generator = runtime.stream(self._seed, "iteration", iteration)
        expert = int(torch.randint(len(self._trajectories), (), generator=generator))
        first, end = self._method.window(settings.min_start_epoch, settings.max_start_epoch)
        start_epoch = int(torch.randint(first, end, (), generator=generator))
        images = len(self.state.labels)
        drawn = plan(images, settings.batch_syn or images, settings.syn_steps, settings.augment, generator)
        rows = torch.from_numpy(self._trajectories.rows(expert, (start_epoch, start_epoch + settings.expert_epochs)))
        return Drawn(expert, start_epoch, drawn, rows.pin_memory() if self._device.type == "cuda" else rows)

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

    def iterate(self) -> history.Record:
        """Match one span of one expert and update the set, unless something in it is not finite."""
        begun = time.perf_counter()
        drawn = self._draw()
        start, target = drawn.rows.to(self._device, non_blocking=True)
        batches = SyntheticBatches(
            self._parameterisation.images(self.state.images),
            probabilities(self.state.labels, self._classes).to(self.state.images),
            drawn.plan.to(self._device),
        )
        match = self._match(
            self._steps,
            start,
            target,
            batches,
            self.state.lr,
            lambda distances: self._method.select(distances, self._settings.select_metric),
        )
        gradient = self._parameterisation.pull_back(self.state.images, batches.gradients()[0])
        accepted = self._update(match, gradient)
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

    def _update(self, match: Match, gradient: Tensor) -> bool:
        """Momentum SGD on the images and the student's learning rate, which stays above its minimum; then the EMA."""
        settings, state = self._settings, self.state
        counts = dict(state.counts)
        momentum_images = settings.momentum_img * state.momentum_images + gradient
        momentum_lr = settings.momentum_lr * state.momentum_lr + match.lr_gradient
        images = state.images - settings.lr_img * momentum_images
        lr = state.lr - settings.lr_lr * momentum_lr
        finite = torch.stack([match.loss.isfinite(), images.isfinite().all(), lr.isfinite()])
        if not bool(finite.all()):
            counts["skipped"] += 1
            counts["skipped_in_a_row"] += 1
            self.state = replace(state, iteration=state.iteration + 1, counts=counts)
            logger.warning("iteration {}: not finite, skipped", state.iteration)
            if counts["skipped_in_a_row"] >= settings.max_bad_updates:
                raise UserError(
                    f"{counts['skipped_in_a_row']} updates in a row were not finite at iteration {state.iteration}; "
                    f"lower distill.lr_img or distill.lr_init"
                )
            return False
        counts["skipped_in_a_row"] = 0
        if float(lr) < settings.min_lr:
            counts["lr_projected"] += 1
            lr = lr.clamp(min=settings.min_lr)
        self.state = replace(
            state,
            iteration=state.iteration + 1,
            images=images,
            lr=lr,
            ema=settings.ema_decay * state.ema + (1 - settings.ema_decay) * images,
            momentum_images=momentum_images,
            momentum_lr=momentum_lr,
            counts=counts,
        )
        return True
