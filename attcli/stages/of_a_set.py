"""What a set that is scored brings along: the images that it stands for, and the protocol that it is scored by."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from loguru import logger
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attcli import coding
from attcli.data.normalise import Normaliser
from attcli.errors import UserError
from attcli.scoring.protocol import NAMED, NUMBERS, OF_OPTIMISER, Protocol, protocol_of, same_optimiser
from attcli.settings import Buffer, Evaluate, Network, Prepare, Settings
from attcli.settings.choices import idle
from attcli.stages import identity
from attcli.stages.run import NAMES, Run, differences
from attcli.store import artefact, dataset, headers, synthetic


def dataset_for(run: Run, distilled: synthetic.SyntheticSet) -> dataset.Dataset:
    """The dataset that the set was distilled from. UserError if another one is among the results."""
    about, data = distilled.about, dataset.read(run.dataset)
    for what in ("dataset", "channels", "resolution", "classes"):
        if data.about[what] != about[what]:
            raise UserError(
                f"{run.dataset} has {what} {data.about[what]}, the set was distilled from {about[what]}; "
                f"use another folder: --artifacts DIR"
            )
    for what in ("kind", "eps", "sha256") if distilled.normaliser is None else ():
        kept, wanted = data.about["normaliser"][what], about["normaliser"][what]
        if kept != wanted:
            raise UserError(
                f"{run.dataset} is normalised with {what} {kept}, the set with {wanted}, whose normaliser.h5 is not "
                f"beside it; put it there, or use another folder (--artifacts DIR) and prepare the images as then"
            )
    return data


def refitted(run: Run, path: Path) -> synthetic.Instead:
    """What to use where the set at `path` has lost its ZCA matrix: the one among the results.

    It is used only if it was fitted to the same images. On another machine it differs from the set's own by rounding,
    and so has another hash; then there is a warning.
    """

    def instead(about: dict[str, Any]) -> Normaliser | None:
        if "prepare" not in about or not run.dataset.exists():
            return None
        header = artefact.header(run.dataset, dataset.KIND, dataset.MAKER)
        if header.fingerprint != identity.prepare(settings_of(run, about))[0]:
            return None
        if header.about["normaliser"]["sha256"] != about["normaliser"]["sha256"]:
            logger.warning(
                "{} has no normaliser.h5 beside it; the one that was fitted to the same images here is used, and "
                "differs by rounding",
                path,
            )
        return dataset.read(run.dataset).normaliser

    return instead


def check_asked(
    run: Run, about: Mapping[str, Any], made_by: Mapping[str, Any], file: Path, *, named: bool = False
) -> None:
    """UserError where what was asked for is not what the set in the file is.

    about and made_by: the header of the set, and the settings that decided it. named: whether the user named the file;
    for such a set only flags count, for the results' own sets those of a params file too.
    """
    settings = run.settings
    of_a_set = {name: value for name, value in identity.LATER.items() if name.startswith("distill.")}
    is_there = {"prepare.dataset": about["dataset"], **of_a_set, **_flat(made_by)}
    read = of_a_set.keys() - idle(settings)
    later = {name: getattr(settings.distill, name.partition(".")[2]) for name in read}
    asked = {"prepare.dataset": settings.prepare.dataset, **later, **_flat(identity.distillation(settings))}
    of_inputs, asked_of_inputs = _of_inputs(run, about, files=not named)
    is_there |= of_inputs
    asked |= asked_of_inputs
    asked = {name: value for name, value in asked.items() if run.asked(NAMES.get(name, name), files=not named)}
    if "imported" in made_by:  # how others distilled it is not known
        known = {"prepare.dataset", *of_inputs, *_flat(made_by)}
        asked = {name: value for name, value in asked.items() if name in known}
    differing = differences({name: is_there.get(name) for name in asked}, asked)
    if differing:
        made, maker = ("imported", "attcli import") if "imported" in made_by else ("distilled", synthetic.MAKER)
        raise UserError(
            f"{file} was {made} with other settings ({'; '.join(differing)}); leave these out to score it as it is, or "
            f"run `{maker}` with them"
        )


def _of_inputs(run: Run, about: Mapping[str, Any], *, files: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the set says of its images and experts, and what the run's settings ask of these.

    Experts are compared only where something of them was asked for: a file that ranks images may be gone. Of imported
    ones and trained ones everything differs, which is said by one setting.
    """
    of_experts = any(run.asked(f"buffer.{name}", files=files) for name in Buffer.model_fields)
    kept, asked = identity.of_inputs(run.settings, about if of_experts else {**about, "made_with": None})
    imported = "buffer.imported"
    if kept.get(imported) != asked.get(imported) and run.asked(imported, files=files):
        asked = {name: value for name, value in asked.items() if name == imported or not name.startswith("buffer.")}
    return kept, asked


def tell_unfinished(run: Run, about: Mapping[str, Any], made_by: Mapping[str, Any]) -> None:
    """A warning where more iterations were asked for than the results' own set has gone through."""
    wanted = run.settings.distill.iterations
    same = not differences(made_by, identity.distillation(run.settings))
    is_meant = same or run.asked("distill.iterations", files=True)
    if is_meant and about["iteration"] < wanted and "imported" not in about:
        message = "{} is from iteration {} of {}; it is scored as it is, `{}` continues it"
        logger.warning(message, run.synthetic, about["iteration"], wanted, synthetic.MAKER)


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{section}.{name}": value
        for section, values in settings.items()
        if isinstance(values, Mapping)
        for name, value in values.items()
    }


def settings_of(run: Run, about: Mapping[str, Any]) -> Settings:
    """The settings of a run with the images and the network of the set with this header that it scores."""
    kept = about.get("prepare") or {"dataset": about["dataset"], "normalise": about["normaliser"]["kind"]}
    section = {name: value for name, value in kept.items() if name in Prepare.model_fields}
    network = {name: value for name, value in about["network"].items() if name in Network.model_fields}
    try:
        images = {"prepare": Prepare.model_validate(section), "network": Network.model_validate(network)}
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(
            f"the set's file asks for images or a network that there can't be ({where}: {first['msg']}); name another"
        ) from None
    return run.settings.model_copy(update=images)


def as_distilled(run: Run, file: Path, named: Path | None) -> Run:
    """The same run with the images and the network that the set in a file was distilled with.

    named: the file where the user named it, None for the results' own set. UserError where what was asked for is not
    what the set is.
    """
    header = synthetic.header(file)
    check_asked(run, header.about, header.settings, file, named=named is not None)
    return replace(run, settings=settings_of(run, header.about))


def baselines_for(settings: Evaluate, choices: coding.Choices) -> tuple[str, ...]:
    """The real images that a set is compared with: those asked for, or what suits how it is learned and kept."""
    if settings.baselines is not None:
        return tuple(settings.baselines)
    plain = {**choices, "labels": None} == {**coding.PLAIN, "labels": None}
    return ("random",) if plain else ("random", "random-kept", "random-webp")


def protocol_for(run: Run, distilled: synthetic.SyntheticSet) -> Protocol:
    """The protocol: what a flag, --set or params file says, else what the set's file says, else the literature's."""
    settings = run.settings.evaluate
    asked = {name: getattr(settings, name) for name in (*NUMBERS, "protocol") if name != "name"}
    asked = {name: value for name, value in asked.items() if run.asked(f"evaluate.{name}", files=True)}
    protocol = own_protocol(distilled, **asked)
    if protocol.name == "replay":
        _check_nothing_else(run)
    return protocol


def _check_nothing_else(run: Run) -> None:
    """UserError where a flag changes the steps of a replay."""
    names = ("lr", *(name for name in NUMBERS if name != "name"))
    changed = [f"evaluate.{name}" for name in names if run.origin.get(f"evaluate.{name}") == "flag"]
    if changed:
        raise UserError(
            f"the protocol replay makes the set's own steps again, which {', '.join(changed)} can't change; leave it "
            f"out, or score by another protocol"
        )


def own_protocol(distilled: synthetic.SyntheticSet, protocol: str | None = None, **asked: Any) -> Protocol:
    """The protocol that the set's file says, or the one of that name, but for what is `asked`."""
    own = distilled.about["protocol"]
    name = protocol or own.get("protocol")
    if name == "replay":
        return _replay(distilled)
    left_out = () if same_optimiser(name, own.get("protocol")) else OF_OPTIMISER
    numbers = {key: own.get(key) for key in NUMBERS if key not in ("name", *left_out)}
    return protocol_of(name, numbers, asked)


class _Steps(BaseModel):
    """What a replay reads of the settings that made a set, with what it takes where the set's file does not say."""

    model_config = ConfigDict(strict=True)

    student_batches: str = "any"
    student_optimiser: str = "sgd"
    student_start: str = "fresh"
    student_lr: Annotated[float, Field(gt=0)] | None = None
    steps_before: Annotated[int, Field(ge=0)] = 0
    augment: Annotated[str, Field(max_length=200, pattern=headers.AUGMENTATION)] | None = None
    batch_syn: Annotated[int, Field(ge=1)] | None = None
    syn_steps: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    seed: Annotated[int, Field(ge=0)] = 0


def _replay(distilled: synthetic.SyntheticSet) -> Protocol:
    """The steps of the set's distillation made again: its batches, its learning rates, its augmentation.

    UserError for a set whose students do not make the same steps of SGD each time.
    """
    images, classes = len(distilled.labels), len(distilled.about["classes"])
    try:
        made_by = _Steps.model_validate(distilled.settings.get("distill") or {})
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(f"the set's file says of distill.{where} what can't be; score it by another protocol") from None
    batch = made_by.batch_syn or images
    if made_by.student_batches != "cyclic" or made_by.student_optimiser != "sgd" or batch < classes:
        raise UserError(
            "the protocol replay makes the steps of a set's students again, which were not the same each time for this "
            "set; it is for sets of distill.student_batches=cyclic and student_optimiser=sgd, such as those of dd"
        )
    if made_by.steps_before:
        raise UserError(
            f"the protocol replay makes the steps of a set's students again, and this set's made up to "
            f"{made_by.steps_before} more before them (distill.steps_before); score it by another protocol"
        )
    rate = distilled.lr if made_by.student_lr is None else made_by.student_lr
    rates = (rate,) * made_by.syn_steps if distilled.rates is None else tuple(distilled.rates.tolist())
    return replace(
        NAMED["replay"],
        epochs=max(1, len(rates) * batch // images),
        batch=batch,
        augment=made_by.augment or distilled.about["protocol"]["augment"],
        rates=rates,
        start=made_by.seed if made_by.student_start == "fixed" else None,
    )


def rates_for(settings: Evaluate, protocol: Protocol, learned_lr: float) -> tuple[float, tuple[float, ...]]:
    """The learning rate that a set is scored at, and those that are tried on real images besides.

    None is tried besides where the protocol has a rate, or a set's steps are made again, which have their own.
    """
    lr = settings.lr or protocol.rate or learned_lr
    return lr, (() if protocol.rate or protocol.rates else settings.random_lrs)
