"""What stages take in: the prepared dataset, the experts, and the network for their images; each checked to fit."""

import itertools

import torch

from attcli.errors import UserError
from attcli.matching.parameters import Layout
from attcli.networks import Architecture
from attcli.settings import Network
from attcli.stages import identity
from attcli.stages.run import Run, differences, imported_experts, refuse
from attcli.store import artefact, dataset, experts


def architecture(network: Network, about: dict[str, object]) -> Architecture:
    """The network of the settings, for the images that an artefact's header is about."""
    return Architecture.of(network.model_dump(), about)


def read_dataset(run: Run) -> dataset.Dataset:
    """The dataset that the settings ask for. UserError if it is missing, or another one is there."""
    fingerprint, decisive = identity.prepare(run.settings)
    data = dataset.read(run.dataset)
    header = artefact.header(run.dataset, dataset.KIND, dataset.MAKER)
    if header.fingerprint != fingerprint:
        raise refuse(run.dataset, header.settings, decisive, f"run `{dataset.MAKER} --force`")
    return data


def open_experts(run: Run, data: dataset.Dataset) -> experts.Experts:
    """The experts that distilling reads, if it does: else none, of nothing.

    UserError unless there are as many, as long, and of the kind, as asked for.
    """
    settings = run.settings
    if not settings.reads_experts:
        return experts.Experts([])
    trajectories = experts.open_experts(run.experts, settings.buffer.experts)
    try:
        layout, wanted = layout_of(run, data), identity.buffer(settings, data.sha256)
        for header in trajectories.headers:
            _check_making(run, header, data, wanted)
            check_fit(run, header, data, layout)
        if trajectories.epochs < settings.read_epochs:
            raise UserError(
                f"the experts in {run.experts} have {trajectories.epochs} epochs, distilling reads "
                f"{settings.read_epochs}; run `{experts.MAKER}`"
            )
    except BaseException:
        trajectories.close()
        raise
    return trajectories


def layout_of(run: Run, data: dataset.Dataset) -> list[list[object]]:
    """Name and shape of every parameter of the network that students have."""
    with torch.device("meta"):
        layout = Layout.of(architecture(run.settings.network, data.about).build())
    return [[name, list(shape)] for name, shape in zip(layout.names, layout.shapes, strict=True)]


def check_fit(run: Run, header: artefact.Header, data: dataset.Dataset, wanted: list[list[object]]) -> None:
    """UserError unless an expert's parameters are those of the network that students have, whoever trained it."""
    kept = header.about["layout"]
    for what in ("channels", "resolution", "classes"):
        if header.about[what] != data.about[what]:
            raise UserError(
                f"{run.experts} is for {what} {header.about[what]}, {run.dataset} has {data.about[what]}; "
                f"use another folder for these images: --artifacts DIR"
            )
    if kept != wanted:
        differing = next((a, b) for a, b in itertools.zip_longest(kept, wanted) if a != b)
        raise UserError(
            f"{run.experts} holds experts of a network with other parameters ({differing[0]} there, {differing[1]} in "
            f"this version of {run.settings.network.arch}); run `{experts.MAKER} --fresh`"
        )


def _check_making(run: Run, header: artefact.Header, data: dataset.Dataset, wanted: identity.Identity) -> None:
    """UserError, naming what differs, unless attcli made an expert with the network, trainer and dataset asked for.

    `wanted` is their identity: to find it out for each expert anew takes a while where the dataset is of many files.
    """
    fingerprint, decisive = wanted
    if header.fingerprint == fingerprint:
        return
    if imported_experts(header.settings) != imported_experts(decisive):
        raise refuse(run.experts, header.settings, decisive, f"`{experts.MAKER} --force` replaces them")
    differing = differences(header.settings, decisive)
    if header.about["dataset_sha256"] != data.sha256 and not differing:
        differing = ["they were trained on other images"]
    raise UserError(
        f"{run.experts} holds other experts ({'; '.join(differing)}); "
        f"run `{experts.MAKER} --force` to replace them, or use another folder: --artifacts DIR"
    )
