"""distill: synthetic images are optimised until training on them retraces the experts' trajectories."""

import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from loguru import logger

from attcli import coding, execution, objectives, runtime
from attcli.coding import Coding
from attcli.data.inputs import TOGETHER
from attcli.errors import UserError
from attcli.objectives import Objective
from attcli.parameterisations import Space
from attcli.progress import track
from attcli.ranks import Ranks
from attcli.settings import Distill, Settings
from attcli.signals import held
from attcli.stages import difficulty, emphasis, identity, initial, inputs, jobs
from attcli.stages.ahead import ReadAhead
from attcli.stages.emphasis import Emphasis
from attcli.stages.interrupt import deferred
from attcli.stages.outcome import Outcome
from attcli.stages.run import Run, may_write
from attcli.stages.spans import Spans
from attcli.stages.update import Updates
from attcli.store import artefact, dataset, experts, history, states, synthetic

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
    distill = settings.distill
    per_class = coding.images_per_class(distill, data.about["channels"], data.about["resolution"])
    about = {
        **data.about,
        "dataset_sha256": data.sha256,
        "method": distill.method,
        "ipc": distill.ipc,
        "images_per_class": per_class,
        "coding": coding.choices(distill),
        "network": identity.network(settings),
        "protocol": identity.protocol(settings),
        "prepare": identity.prepare(settings)[1],
        "made_with": identity.made_with(settings),
        "seed": settings.seed_of("distill"),
    }
    return artefact.Header(synthetic.KIND, fingerprint, decisive, about, runtime.versions())


@dataclass(frozen=True)
class Loop:
    """The parts of an iteration: images from numbers, the slope of a loss in the images, an update of the numbers.

    emphasis: what weights the slope in the images' pixels, if anything does.
    """

    coding: Coding
    objective: Objective
    spans: Spans
    updates: Updates
    emphasis: Emphasis | None = None

    def iterate(self, state: states.State, drawn: list[Any]) -> tuple[states.State, list[history.Record]]:
        """The state after one more iteration, and what the history keeps of each of its spans."""
        begun = time.perf_counter()
        images = self.coding.images(state.coded(), state.scales)
        labels = states.labels_as_kept(self.coding, state)
        slope, facts = self.spans.slope(images, labels, state.rates, drawn, state.memory)
        if self.emphasis is not None:
            slope = self.emphasis.weighted(slope, images, labels, state.iteration, state.memory)
        after, moved = self.updates.apply(state, slope)
        shared: dict[str, Any] = {"iteration": state.iteration, "lr": float(after.lr), "accepted": int(moved)}
        seconds = (time.perf_counter() - begun) / len(facts)
        return after, [
            history.Record(**shared, **of_span, span=span, seconds=seconds) for span, of_span in enumerate(facts)
        ]


def begin(
    run: Run, data: dataset.Dataset, trajectories: experts.Experts, resumed: states.State | None = None
) -> tuple[Loop, states.State]:
    """The loop, and the state that it starts from (or resumes), on the device. UserError if a class is too small.

    All ranks begin together, from the state of rank 0.
    """
    settings, ranks = run.settings, run.ranks
    device = runtime.device(settings.runtime.device)
    execution.set_precision(settings.distill.precision)
    architecture = inputs.architecture(settings.network, data.about)
    student = execution.student(architecture.build, device, settings.distill.precision)
    space = Space(data.about["channels"], data.about["resolution"], data.normaliser)
    decoder = coding.load(coding.choices(settings.distill), space)
    state = resumed
    if state is None and ranks.lead:
        judged = (data.about["channels"], data.about["resolution"], data.about["resolution"])
        execution.use_threads(  # as experts judge images at the start, whatever another stage has left behind
            settings.runtime.threads,
            architecture.build,
            execution.Work(judged, architecture.classes, batch=TOGETHER, images=TOGETHER),
        )
        of_images = partial(difficulty.scores, run, data)
        state = initial.begin(settings, data, trajectories, student, decoder, device, of_images)
    state = _of_lead(ranks, state).to(device)
    images = decoder.images(state.coded(), state.scales)
    objective = objectives.load(
        settings.distill.objective,
        objectives.Inputs(
            settings=settings.distill,
            execution=settings.runtime,
            seed=settings.seed_of("distill"),
            architecture=architecture,
            student=student,
            experts=trajectories,
            data=data,
            images=images,
            team=ranks.team(min(settings.distill.spans, ranks.size)),
        ),
    )
    spans = Spans(objective, settings.distill.spans, ranks)
    looking = emphasis.begin(settings, trajectories, student, images)
    return Loop(decoder, objective, spans, Updates(settings.distill, decoder), looking), state


def _of_lead(ranks: Ranks, state: states.State | None) -> states.State:
    """Rank 0's state, which it has begun with or read."""
    if ranks.several:
        state = ranks.from_lead(state and state.to(torch.device("cpu")))
    assert state is not None
    return state


def share(run: Run, job: jobs.Job) -> None:
    """A rank's part in a distillation that rank 0 leads: its spans of every iteration, until rank 0 says stop."""
    data = inputs.read_dataset(run)
    with closing(inputs.open_experts(run, data)) as trajectories:
        job.begin_in_step()
        loop, state = begin(run, data, trajectories)
        with closing(ReadAhead(loop.spans.ahead, state.lr.device)) as draws, deferred() as stop:
            while run.ranks.agreed(False):
                state, _ = loop.iterate(state, draws.of(state.iteration))
                _compare(run, state)
                loop.updates.give_up(state)
                stop.tell()
            job.in_step = False


class DisagreementError(UserError):
    """The ranks do not hold the same set."""


def _compare(run: Run, state: states.State) -> None:
    """DisagreementError where the ranks do not hold the same set, which happens where their processors differ."""
    if run.ranks.several:
        digest = artefact.checksum({**states.named("learned", state.learned), **states.named("memory", state.memory)})
        if len(set(run.ranks.gathered(digest))) > 1:
            raise DisagreementError(
                f"after iteration {state.iteration} the processes hold different sets, as their machines compute "
                f"differently; use machines of one kind (the set is kept as it was before)"
            )


def _distill(
    run: Run, data: dataset.Dataset, trajectories: experts.Experts, header: artefact.Header, folder: Path
) -> None:
    wanted = run.settings.distill.iterations
    results = Outcome(run, data, header, folder)
    results.adopt()
    resumed = results.resume(wanted)
    if resumed and resumed.iteration == wanted:
        results.finish(resumed)
        logger.info(
            "all {} iterations are done already, {} holds their set; for more, raise --iterations",
            wanted,
            run.synthetic,
        )
        return
    if resumed:
        logger.info("resuming after iteration {} of {}", resumed.iteration, wanted)
    asked = run.settings.distill
    if asked.init == "ranked" and asked.start_from is None and resumed is None:
        difficulty.scores(run, data)  # may take a while: kept before other processes wait in step
    with jobs.shared(run, "distill") as job:
        job.begin_in_step()
        loop, state = begin(run, data, trajectories, resumed)
        if resumed is None:
            _check_start(run, header)
        results.machine = _machine(loop.objective.step_functions, state.lr.device)
        state = _lead(run, loop, state, results, folder.name, job)
    counts = {name: count for name, count in state.counts.items() if count}
    logger.info("{} holds iteration {}{}", run.synthetic, state.iteration, f" {counts}" if counts else "")


def _check_start(run: Run, header: artefact.Header) -> None:
    """UserError where the set to start from is not the one any more that this distillation is known by."""
    path = run.settings.distill.start_from
    if any(header.settings["distill"].get(name) != sha256 for name, sha256 in identity.start(run.settings).items()):
        raise UserError(
            f"{path} was changed while it was read; wait until what writes it has ended, or start from a copy of it"
        )


def _lead(run: Run, loop: Loop, state: states.State, results: Outcome, work: str, job: jobs.Job) -> states.State:
    """Iterate with all ranks until the set is done, or a signal or the time limit ends it; whatever happens, save.

    One iteration is made under any time limit. Returns the state after the last one.
    """
    settings, first, saved = run.settings.distill, state.iteration, time.monotonic()
    wanted = settings.iterations
    with (
        closing(ReadAhead(loop.spans.ahead, state.lr.device)) as draws,
        deferred() as stop,
        track("iterations", wanted, first) as progress,
        run.tracking("distill", work) as log,
    ):
        try:
            while run.ranks.agreed(
                state.iteration < wanted and not stop.asked and (state.iteration == first or not run.out_of_time())
            ):
                after, records = loop.iterate(state, draws.of(state.iteration))
                _compare(run, after)
                state = after
                results.records += records
                loss, step = _mean([r.loss for r in records]), _mean([r.step for r in records])
                chosen = {"step": step} if len(records[0].l1) else {}  # else all steps count
                log(records[0].iteration, {"loss": loss, **chosen, "lr": records[0].lr})
                loop.updates.give_up(state)
                of_step = f"step {step:g}, " if chosen else ""
                progress.advance(f"loss {loss:.4f}, {of_step}lr {records[0].lr:.5f}")
                saved = _save(results, state, settings, saved)
            job.in_step = False
            if run.out_of_time() and state.iteration < wanted:
                message = "stopped by the time limit after iteration {} of {}; run again to continue"
                logger.warning(message, state.iteration, wanted)
        finally:
            with held():  # a signal that comes meanwhile waits
                results.finish(state)
    return state


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


def _save(results: Outcome, state: states.State, settings: Distill, saved: float) -> float:
    """Save where it is time to; returns when the last save was."""
    now = time.monotonic()
    if state.iteration % settings.save_every == 0 or state.iteration == settings.iterations:
        results.save(state)
        return now
    if now - saved > SAVE_SECONDS:
        results.save_latest(state)
        return now
    return saved


def _machine(step_functions: Any, device: torch.device) -> dict[str, Any]:
    """What a distillation runs on: provenance, which is kept in the history."""
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    return {"device": str(device), **gpu, "threads": torch.get_num_threads(), "steps": execution.told(step_functions)}
