"""What no single setting can be wrong about: checks across settings, before any work starts."""

from attcli import registry
from attcli.errors import UserError
from attcli.options import DatasetInfo
from attcli.settings.models import Settings

OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")


def check_readable(settings: Settings) -> None:
    """UserError where the dataset's images can't be read yet, though recipes know it."""
    info = registry.dataset(settings.prepare.dataset)
    if not info.readable:
        readable = ", ".join(name for name in registry.names("dataset") if registry.dataset(name).readable)
        raise UserError(f"{info.name}: source not available yet; choose --dataset with one of {readable}")


def check(settings: Settings) -> None:
    """UserError, in one line with the remedy, for the first thing that cannot work."""
    info = registry.dataset(settings.prepare.dataset)
    for arch in filter(None, (settings.network.arch, *settings.evaluate.archs, settings.evaluate.whole_arch)):
        registry.known("architecture", arch, registry.names("network"))
        registry.module("network", arch)
    for name in settings.evaluate.baselines:
        registry.module("baseline", name)
    for kind in ("trainer", "parameterisation", "storage"):
        section, name = registry.KINDS[kind].setting.split(".")
        registry.module(kind, getattr(getattr(settings, section), name))
    registry.known("objective", settings.distill.objective, registry.names("objective"))
    there = f"there are: {', '.join(OPERATIONS)}"
    for name, strategy in (
        ("buffer.augment", settings.buffer.augment),
        ("distill.augment", settings.distill.augment),
        ("evaluate.augment", settings.evaluate.augment),
    ):
        if strategy is not None and strategy != "none":
            for operation in strategy.split("_"):
                registry.known(f"augmentation in {name}:", operation, OPERATIONS, f"{there}, or none")
    if settings.prepare.normalise == "literature" and info.literature is None:
        raise UserError(f"prepare.normalise literature: there are no such figures for {info.name}; use standardise")
    _spans(settings)
    _counts(settings, info)


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
            f"max_start_epoch {distill.max_start_epoch}; set it to null to begin with all start epochs"
        )
    if settings.label_epoch is not None and settings.label_epoch > settings.epochs:
        raise UserError(
            f"distill.label_epoch {settings.label_epoch} is beyond the experts' {settings.epochs} epochs; lower it or "
            f"raise buffer.epochs"
        )
    if settings.epochs < settings.matched_epochs:
        raise UserError(
            f"buffer.epochs {settings.epochs} is too few: matching reads {settings.matched_epochs} epochs "
            f"(max_start_epoch - 1 + expert_epochs); set buffer.epochs to auto"
        )


def _counts(settings: Settings, info: DatasetInfo) -> None:
    prepare, distill = settings.prepare, settings.distill
    smallest = min(info.smallest_class, prepare.limit_per_class or info.smallest_class)
    total = min(info.train, smallest * info.classes) if prepare.limit_per_class else info.train
    if prepare.validation and prepare.validation + info.classes > total:
        raise UserError(
            f"prepare.validation {prepare.validation} leaves too little of {total} training images; lower it"
        )
    if prepare.validation:
        smallest -= -(-prepare.validation * smallest // total)
    if distill.init != "noise" and distill.ipc > smallest:
        raise UserError(
            f"distill.ipc {distill.ipc} is more than the {smallest} training images of the smallest class of "
            f"{info.name}; lower it or set distill.init=noise"
        )
    if settings.buffer.batch > total - prepare.validation:
        left = total - prepare.validation
        raise UserError(f"buffer.batch {settings.buffer.batch} is more than the {left} training images; lower it")
    images = distill.ipc * info.classes
    if distill.batch_syn and distill.batch_syn > images:
        raise UserError(f"distill.batch_syn {distill.batch_syn} is more than the set's {images} images; set it to null")
