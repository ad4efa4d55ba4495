"""What stages take in: the prepared dataset, the experts, and the network for their images; each checked to fit."""

from attcli.errors import UserError
from attcli.networks import Architecture
from attcli.settings import Network
from attcli.stages import identity
from attcli.stages.run import Run, differences, refuse
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
    """The experts that distilling reads. UserError unless there are as many, as long, and of the kind, as asked for."""
    settings = run.settings
    trajectories = experts.open_experts(run.experts, settings.buffer.experts)
    try:
        for header in trajectories.headers:
            _check_experts(run, header, data)
        if trajectories.epochs < settings.read_epochs:
            raise UserError(
                f"the experts in {run.experts} have {trajectories.epochs} epochs, distilling reads "
                f"{settings.read_epochs}; run `{experts.MAKER}`"
            )
    except BaseException:
        trajectories.close()
        raise
    return trajectories


def _check_experts(run: Run, header: artefact.Header, data: dataset.Dataset) -> None:
    """UserError, naming what differs, unless an expert is of the network, trainer and dataset that are asked for."""
    fingerprint, decisive = identity.buffer(run.settings, data.sha256)
    if header.fingerprint == fingerprint:
        return
    differing = differences(header.settings, decisive)
    if header.about["dataset_sha256"] != data.sha256 and not differing:
        differing = ["they were trained on other images"]
    raise UserError(f"{run.experts} holds other experts ({'; '.join(differing)}); run `{experts.MAKER} --force`")
