"""What a set that is scored brings along: the images that it stands for, and the protocol that it is scored by."""

from typing import Any

from attcli import coding
from attcli.errors import UserError
from attcli.scoring.protocol import Protocol
from attcli.settings import Evaluate, Network, Prepare, Settings
from attcli.stages.run import Run
from attcli.store import dataset, synthetic


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


def settings_of(run: Run, distilled: synthetic.SyntheticSet) -> Settings:
    """The settings of a run with the images and the network of the set that it scores."""
    about = distilled.about
    kept = about.get("prepare") or {"dataset": about["dataset"], "normalise": about["normaliser"]["kind"]}
    section = {name: value for name, value in kept.items() if name in Prepare.model_fields}
    network = {name: value for name, value in about["network"].items() if name in Network.model_fields}
    images = {"prepare": Prepare.model_validate(section), "network": Network.model_validate(network)}
    return run.settings.model_copy(update=images)


def baselines_for(settings: Evaluate, choices: coding.Choices) -> tuple[str, ...]:
    """The real images that a set is compared with: those asked for, or what suits how it is learned and kept."""
    if settings.baselines is not None:
        return tuple(settings.baselines)
    plain = {**choices, "labels": None} == {**coding.PLAIN, "labels": None}
    return ("random",) if plain else ("random", "random-kept", "random-webp")


def protocol_for(run: Run, distilled: synthetic.SyntheticSet) -> Protocol:
    """The protocol: what a flag, --set or params file says, else what the set's file says, else the literature's."""
    settings, own = run.settings.evaluate, distilled.about["protocol"]
    plain = Protocol()

    def value(name: str, key: str | None = None) -> Any:
        stated = getattr(settings, name)
        if stated is not None and run.asked(f"evaluate.{name}", files=True):
            return stated
        kept = own.get(name)
        return getattr(plain, key or name) if kept is None else kept

    return Protocol(
        name=value("protocol", "name"),
        epochs=value("epochs"),
        batch=value("batch"),
        momentum=value("momentum"),
        weight_decay=value("weight_decay"),
        augment=value("augment"),
    )
