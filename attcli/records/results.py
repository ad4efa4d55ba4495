"""A results folder as a record sees it: what its files say of themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attcli.records.model import Experts
from attcli.store import artefact, dataset, experts

Settings = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """A results folder: its set's header and arrays, and the folders that may hold the work that it came from."""

    folder: Path
    works: Sequence[Path]
    header: artefact.Header
    arrays: artefact.Arrays

    @property
    def about(self) -> dict[str, Any]:
        """The facts of the set."""
        return self.header.about

    @property
    def images_per_class(self) -> int:
        """The images of a class that the set stands for."""
        return int(self.about.get("images_per_class") or self.about["ipc"])

    def work(self, stage: str, fingerprint: str) -> Path | None:
        """The work folder of a stage and identity, if it is still there."""
        return next((path for root in self.works if (path := root / f"{stage}-{fingerprint}").is_dir()), None)


@dataclass(frozen=True)
class Trained:
    """The experts that the set was distilled from: what they took, their settings, identity and epochs each."""

    trained: Experts
    settings: Settings
    fingerprint: str
    epochs_each: int


def dataset_of(results: Results) -> tuple[artefact.Header, int] | None:
    """The header of the prepared dataset and its number of training images; None where it is gone or another one."""
    path = results.folder / "dataset.h5"
    if not path.exists():
        return None
    file, header = artefact.open_file(path, dataset.KIND, dataset.MAKER)
    with file:
        images = int(file["train/labels"].shape[0])
    return (header, images) if header.sha256 == results.about["dataset_sha256"] else None


def experts_of(results: Results) -> Trained | None:
    """The experts among the results; None where some are gone, or are not those of the set."""
    number = int(results.header.settings.get("distill", {}).get("experts", 0))
    files = [experts.path(results.folder / "experts", index) for index in range(number)]
    if not files or not all(file.exists() for file in files):
        return None
    headers = [artefact.header(file, experts.KIND, experts.MAKER) for file in files]
    same = ("dataset_sha256", "network")
    if any(header.about[name] != results.about[name] for header in headers for name in same):
        return None
    epochs = [experts.epochs_of(file) for file in files]
    prepared = dataset_of(results)
    imported = "imported" in headers[0].about  # on how many images others trained them is not known
    images = prepared[1] if prepared and not imported else None
    return Trained(
        Experts(
            experts=number,
            epochs=sum(epochs),
            images_per_epoch=images,
            images=images * sum(epochs) if images else None,
        ),
        headers[0].settings,
        headers[0].fingerprint,
        max(epochs),
    )
