"""What no single setting can be wrong about: checks across settings, before any work starts."""

import re

from attcli import coding, registry, trackers
from attcli.data import sources
from attcli.errors import MissingError, UserError
from attcli.options import LARGEST_ZCA, WHITENING, DatasetInfo, share_of
from attcli.settings.choices import read_by
from attcli.settings.models import Settings

OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")


def check(settings: Settings) -> None:
    """UserError, in one line with the remedy, for the first thing that cannot work."""
    registry.dataset(settings.prepare.dataset)
    try:
        check_images(settings, sources.describe(settings.images))
    except MissingError:
        if not settings.prepared.exists():
            raise
        # The stages check it against what was prepared from the files: only they may read it.
    for name in settings.evaluate.baselines or ():
        registry.module("baseline", name)
    for kind in ("trainer", "parameterisation", "storage"):
        section, name = registry.KINDS[kind].setting.split(".")
        registry.module(kind, getattr(getattr(settings, section), name))
    trackers.check(settings.runtime.trackers)
    registry.known("objective", settings.distill.objective, registry.names("objective"))
    _objective(settings)
    listing = f"there are: {', '.join(OPERATIONS)}"
    for name, strategy in (
        ("buffer.augment", settings.buffer.augment),
        ("distill.augment", settings.distill.augment),
        ("evaluate.augment", settings.evaluate.augment),
        ("distill.real_augment", settings.distill.real_augment),
    ):
        if strategy is not None and strategy != "none":
            for operation in re.split("[_+]", strategy):
                registry.known(f"augmentation in {name}:", operation, OPERATIONS, f"{listing}, or none")
    _spans(settings)


def check_images(settings: Settings, info: DatasetInfo) -> None:
    """UserError, in one line with the remedy, for the first setting that does not suit the images."""
    registry.check_network(settings.network.arch, info.resolution, settings.network.model_dump())
    for arch in filter(None, (*settings.evaluate.archs, settings.evaluate.whole_arch)):
        registry.check_network(arch, info.resolution, {})
    if settings.prepare.normalise == "literature" and info.literature is None:
        raise UserError(
            f"prepare.normalise literature: there are no such figures for {info.name}; "
            "set prepare.normalise=standardise"
        )
    if settings.prepare.normalise in WHITENING and info.values > LARGEST_ZCA:
        raise UserError(
            f"ZCA whitening of {info.name} needs a matrix of {info.values:,} x {info.values:,} numbers, which is too "
            f"large; set prepare.normalise=standardise, or a prepare.resolution of at most "
            f"{int((LARGEST_ZCA / info.channels) ** 0.5)}"
        )
    _counts(settings, info)


def _objective(settings: Settings) -> None:
    distill = settings.distill
    if settings.remembers and distill.spans > 1:
        raise UserError(
            f"distill.spans {distill.spans}: the objective {distill.objective} goes on in each iteration with what it "
            f"has trained before, which is one thing; set distill.spans=1"
        )
    if distill.labels == "teacher" and "distill.expert_epochs" not in read_by(distill.objective):
        raise UserError(
            f"distill.labels teacher: labels come from the expert that is matched, and the objective "
            f"{distill.objective} matches none; set distill.labels to learned or hard"
        )
    registry.answer("objective", distill.objective, "check", None, distill)


def _spans(settings: Settings) -> None:
    distill = settings.distill
    if distill.min_start_epoch >= distill.max_start_epoch:
        raise UserError(
            f"distill.min_start_epoch {distill.min_start_epoch} leaves no start epoch below "
            f"distill.max_start_epoch {distill.max_start_epoch}; lower it"
        )
    current = distill.current_max_start_epoch
    if current is not None and not distill.min_start_epoch < current <= distill.max_start_epoch:
        raise UserError(
            f"distill.current_max_start_epoch {current} is not between min_start_epoch {distill.min_start_epoch} and "
            f"max_start_epoch {distill.max_start_epoch}; set it to null to begin with min_start_epoch alone"
        )
    if settings.label_epoch is not None and settings.label_epoch > settings.epochs:
        raise UserError(
            f"distill.label_epoch {settings.label_epoch} is beyond the experts' {settings.epochs} epochs; lower it or "
            f"raise buffer.epochs"
        )
    if settings.epochs < settings.matched_epochs:
        raise UserError(
            f"buffer.epochs {settings.epochs} is too few: matching reads {settings.matched_epochs} epochs "
            f"({_read_by_matching(settings)}); set buffer.epochs to auto"
        )
    if settings.buffer.waypoints is not None and settings.buffer.waypoints > settings.epochs + 1:
        raise UserError(
            f"buffer.waypoints {settings.buffer.waypoints} is more than the {settings.epochs + 1} networks of an "
            f"expert of {settings.epochs} epochs; lower it, or raise buffer.epochs"
        )


def _read_by_matching(settings: Settings) -> str:
    """How the number of epochs that matching reads follows from settings."""
    return f"max_start_epoch {'- 1 ' if settings.distill.start_epochs == 'whole' else ''}+ expert_epochs"


def _counts(settings: Settings, info: DatasetInfo) -> None:
    prepare, distill = settings.prepare, settings.distill
    smallest = min(info.smallest_class, prepare.limit_per_class or info.smallest_class)
    total = info.limited(prepare.limit_per_class)
    if prepare.validation and prepare.validation + info.classes > total:
        raise UserError(
            f"prepare.validation {prepare.validation} leaves too little of {total} training images; lower it"
        )
    if prepare.validation:
        smallest -= -(-prepare.validation * smallest // total)
    per_class = coding.images_per_class(distill, info.channels, info.resolution)
    if distill.init != "noise" and per_class > smallest:
        pays_for = "" if per_class == distill.ipc else f" pays for {per_class} images per class, which"
        raise UserError(
            f"distill.ipc {distill.ipc}{pays_for} is more than the {smallest} training images of the smallest class of "
            f"{info.name}; lower it or set distill.init=noise"
        )
    passed_over = share_of(distill.rank_offset, per_class)
    if distill.init == "ranked" and passed_over + per_class > smallest:
        raise UserError(
            f"distill.rank_offset {distill.rank_offset} passes over {passed_over} images of each class, which leaves "
            f"fewer than {per_class} of the {smallest} of the smallest class of {info.name}; lower it"
        )
    if settings.buffer.batch > total - prepare.validation:
        left = total - prepare.validation
        raise UserError(
            f"buffer.batch {settings.buffer.batch} is more than the {left} training images; lower it, "
            f"for example with --set buffer.batch={min(64, left)}"
        )
    images = per_class * info.classes
    if distill.batch_syn and distill.batch_syn > images:
        raise UserError(
            f"distill.batch_syn {distill.batch_syn} is more than the set's {images} images; "
            "lower it, or set it to null for all of them"
        )
    registry.answer("objective", distill.objective, "check_counts", None, distill, info.classes, per_class)
