"""The door from Python: distilled sets to train with, and the stages as functions.

All errors that the user can fix are `attcli.UserError`. Nothing is logged, unless `loguru.logger.enable("attcli")` was
called after this module was loaded.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from attcli import interchange, runtime
from attcli.data.inputs import TOGETHER, in_batches, inputs_of
from attcli.data.normalise import Normaliser
from attcli.errors import UserError, brief
from attcli.interchange import Plain, details, hub, packing
from attcli.matching.batches import probabilities
from attcli.matching.halving import is_out_of_memory
from attcli.matching.parameters import vector
from attcli.matching.statistics import calibrate, unfilled
from attcli.matching.student import Student, batch_norms
from attcli.networks import Architecture
from attcli.scoring.combined import COMBINED, as_met
from attcli.scoring.protocol import Protocol
from attcli.scoring.testing import accuracy
from attcli.scoring.training import built, train
from attcli.settings import Settings
from attcli.settings import resolve as resolve_layers
from attcli.settings.layers import flat
from attcli.stages import jobs, pipeline
from attcli.stages.of_a_set import own_protocol
from attcli.stages.run import Run
from attcli.store import artefact, dataset, synthetic

OVERSHOOT = 0.25
"""How far test images in floats may lie outside of [0, 1], as resampled ones do."""


@dataclass(frozen=True, repr=False)
class DistilledSet:
    """A distilled set of n images of K classes.

    images: network inputs f32 (n, C, H, W), that is, normalised images; class by class. They are those of the last
    iteration; `variants` holds them as "synthetic", and their moving average as "ema", which is often a little better
    after long distillations.
    labels: class numbers i64 (n,); for learned labels, the likeliest classes.
    probabilities: target probabilities f32 (n, K).
    lr: the learning rate that was learned with the set. classes: the names of the classes.
    normaliser: `forward` takes images in [0, 1] (N, C, H, W) to network inputs, `inverse` takes them back. A ZCA is
    read from the normaliser.h5 beside the file, or the dataset.h5; None where there is none.
    protocol: how the set is to be trained with. about: what else the file says. size: what the set costs, as
    images_per_class, bytes_per_class and float32_ipc, the number of float32 images of as many bytes. real: which images
    are real ones that were not changed, bool (n,); None where all are distilled.
    """

    images: Tensor
    labels: Tensor
    probabilities: Tensor
    lr: float
    classes: list[str]
    normaliser: Normaliser | None
    protocol: Protocol
    variants: dict[str, Tensor]
    about: dict[str, Any]
    size: dict[str, Any]
    real: Tensor | None = None

    def __repr__(self) -> str:
        """What the set is in one line, without its numbers."""
        channels, height, width = self.images.shape[1:]
        return (
            f"DistilledSet({len(self.images)} images of {channels}x{height}x{width} for {len(self.classes)} classes, "
            f"from {self.about.get('dataset')} by {self.about.get('method')}, lr {self.lr:.4g}, "
            f"variants {', '.join(self.variants)})"
        )

    def dataset(self, variant: str = "synthetic") -> TensorDataset:
        """(image, target) pairs for torch: targets are class numbers, or probabilities where labels were learned.

        torch's cross-entropy takes either.
        """
        return TensorDataset(self._variant(variant), self.probabilities if self._soft else self.labels)

    @property
    def _soft(self) -> bool:
        return bool((self.probabilities.max(dim=1).values < 1).any())

    def _tests(self, path: Path) -> tuple[Tensor, Tensor]:
        """The test images of a dataset's file, as integers, with their classes."""
        data = dataset.read(path)
        for name in ("classes", "channels", "resolution"):
            if data.about[name] != self.about[name]:
                raise UserError(
                    f"{path} has the {name} {data.about[name]}, and the set {self.about[name]}; "
                    f"name the dataset.h5 that the set was distilled from"
                )
        images = data.images["test"]
        return images[torch.arange(len(images))], data.labels["test"]

    def _given(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Test images and classes that were passed. UserError where they are not what `score` takes."""
        shape = tuple(self.images.shape[1:])
        if images.ndim != 1 + len(shape) or tuple(images.shape[1:]) != shape or not len(images):
            raise UserError(
                f"the test images have the shape {tuple(images.shape)}; pass N > 0 images of the set's shape {shape}"
            )
        if labels.shape != (len(images),) or labels.is_floating_point():
            raise UserError(
                f"the test classes are {labels.dtype} of the shape {tuple(labels.shape)}; pass an integer for each of "
                f"the {len(images)} images"
            )
        if int(labels.min()) < 0 or int(labels.max()) >= len(self.classes):
            raise UserError(f"the test classes must be from 0 to {len(self.classes) - 1}, as the set has no others")
        if images.is_floating_point():
            low, high = images.min().item(), images.max().item()
            if not (low >= -OVERSHOOT and high <= 1 + OVERSHOOT):
                raise UserError(
                    f"the test images are floats from {low:g} to {high:g}; scale them to [0, 1], or pass integers as "
                    f"the dataset stores them"
                )
        return images, labels

    def _fitting(self, module: nn.Module) -> nn.Module:
        """The module. UserError where it does not answer images of the set with a number for each class."""
        parameter = next(module.parameters(), None)
        if parameter is None:
            raise UserError("the module has no parameters; pass a network")
        shape, classes = tuple(self.images.shape[1:]), len(self.classes)
        two, twin = self.images[[0, 0]].to(parameter.device, parameter.dtype), deepcopy(module).eval()
        try:
            with torch.no_grad():
                answers = twin(two)
        except (RuntimeError, ValueError, TypeError, LookupError, AssertionError, AttributeError) as error:
            if is_out_of_memory(error):
                raise
            raise UserError(
                f"the module cannot answer images of the shape {shape} ({details(error)}); pass one made for them"
            ) from None
        if tuple(getattr(answers, "shape", ())) != (2, classes):
            raise UserError(
                f"the module does not answer an image with {classes} numbers, one for each class of the set"
            )
        return module

    def _variant(self, variant: str) -> Tensor:
        if variant not in self.variants:
            raise UserError(f"there is no variant {variant!r}; choose one of {', '.join(self.variants)}")
        return self.variants[variant]

    def build(self, network: str, seed: int = 0) -> nn.Module:
        """A freshly initialised network of that name for the set's images: with the set's own options if it is its own.

        UserError for a name that is none.
        """
        own = self.about["network"]
        architecture = Architecture.of(own if own["arch"] == network else {"arch": network}, self.about)
        return built(architecture, (seed, "evaluate", 0), self.protocol.start)

    def train(
        self, network: nn.Module | str, *, seed: int = 0, variant: str = "synthetic", lr: float | None = None
    ) -> nn.Module:
        """Train a network (a module, in place, or the name of one) on the set by its own protocol, and return it.

        `lr` defaults to the learned one. A network with batch norm gets its running statistics from the set afterwards.
        UserError for a module with frozen parameters, as all of them are trained, for one that does not answer the
        set's images with a number for each class, and for `lr` where the protocol has a rate for each step.
        """
        module = self.build(network, seed) if isinstance(network, str) else self._fitting(network)
        if frozen := [name for name, parameter in module.named_parameters() if not parameter.requires_grad]:
            raise UserError(
                f"{frozen[0]} does not require gradients, but all parameters of a module are trained; pass the part "
                f"alone that is to be trained, or train it yourself on dataset()"
            )
        if lr is not None and self.protocol.rates:
            raise UserError("the set's protocol makes its own steps again, each at a rate of its own; leave lr out")
        device = next(module.parameters()).device
        student = Student.of(deepcopy(module))
        theta = vector(module).clone()
        images = self._variant(variant).to(device, theta.dtype)
        labels = (self.probabilities.clamp(min=1e-12).log() if self._soft else self.labels).to(device)
        own = self.protocol.rate or self.lr
        rate, key = own if lr is None else lr, (seed, "evaluate", 0)
        draws = runtime.stream(seed, COMBINED, 0)
        real = torch.zeros(len(images)) if self.real is None else self.real
        seen, protocol = as_met(images, real.bool().to(device), self.protocol, draws)
        train(unfilled(student, module), theta, seen, labels, len(self.classes), rate, protocol, key)
        trained = student.layout.unflatten(theta)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(trained[name])
        norms = [norm for norm in batch_norms(module) if norm.track_running_stats]
        calibrate(module, norms, dict(module.named_parameters()), images)
        return module.eval()

    def score(self, network: nn.Module | str, test: tuple[Tensor, Tensor] | str | Path, *, seed: int = 0) -> float:
        """The accuracy in percent on real images: of a trained module, or of a network by name, which is trained first.

        test: images (N, C, H, W), as integers as their dataset stores them or in [0, 1], and classes (N,); or the path
        of a dataset.h5, of which the test images are taken.
        UserError where the set's normaliser is not at hand, or the images are of other classes, another shape or range.
        """
        if self.normaliser is None:
            raise UserError("the set's normaliser is missing: put the normaliser.h5 that was made with it beside it")
        module = self.train(network, seed=seed) if isinstance(network, str) else self._fitting(network)
        images, labels = self._tests(Path(test)) if isinstance(test, str | Path) else self._given(*test)
        scale = 1.0 if images.is_floating_point() else self.about["value_scale"]
        theta = vector(module)
        inputs = inputs_of(images, scale, self.normaliser, theta.device, theta.dtype)
        if any(True for _ in module.buffers()):
            module.eval()
            with torch.no_grad():
                answers = torch.cat([module(x).argmax(dim=1) for x in in_batches(inputs, TOGETHER)])
            return 100 * int((answers == labels.to(theta.device)).sum()) / len(labels)
        return accuracy(Student.of(deepcopy(module)), theta, inputs, labels.to(theta.device))


def load(path: str | Path, lr: float | None = None) -> DistilledSet:
    """A distilled set from its file, from a snapshot, or from what other programs keep (docs/interchange.md).

    `hf://owner/name` is a set on the Hugging Face Hub. lr: the learning rate of a set that comes without one. What such
    a set does not say is taken from the literature, and its normaliser is None. UserError if it is none.
    """
    if str(path).startswith(hub.PREFIX):
        path = hub.downloaded(str(path))
    try:
        Path(path).exists()
    except (OSError, ValueError) as error:  # such as a name that is too long
        raise UserError(f"{path} is no name that a file can have ({details(error)}); name another one") from None
    return _of(_read(Path(path), lr))


def _read(path: Path, lr: float | None) -> synthetic.SyntheticSet:
    """The set in a file or folder, of whatever form."""
    if path.suffix == ".h5" or artefact.kind_of(path) is not None or not path.exists():
        distilled = synthetic.read(path, kind=None)
    else:
        content = interchange.read(path)
        if isinstance(content, Plain):
            header = content.header
            facts = packing.about_dataset(content) if header is None else packing.kept_facts(header)
            content = packing.whole_of(content, facts, content.normaliser, lr)
            lr = None
        distilled = packing.decoded(content, path)
    if lr is not None:
        raise UserError(f"{path} holds a learning rate already; leave lr out")
    return distilled


def _of(distilled: synthetic.SyntheticSet) -> DistilledSet:
    about = distilled.about
    targets = probabilities(distilled.labels, len(about["classes"])).float()
    return DistilledSet(
        images=distilled.variants["synthetic"],
        labels=targets.argmax(dim=1),
        probabilities=targets,
        lr=distilled.lr,
        classes=list(about["classes"]),
        normaliser=distilled.normaliser,
        protocol=own_protocol(distilled),
        variants=distilled.variants,
        about=about,
        size=distilled.size,
        real=None if distilled.frozen is None else distilled.frozen.bool(),
    )


def resolve(settings: Mapping[str, Any] | None = None) -> Settings:
    """All settings: the given ones (by dotted name, as "distill.ipc"), then the recipe's, then the defaults.

    Sections may hold them, too, as in a params.yaml: {"distill": {"ipc": 1}}. No params.yaml is read. UserError, in one
    line, for what is wrong.
    """
    if not isinstance(settings or {}, Mapping):
        raise UserError(f"settings are a dict, as {{'distill.ipc': 1}}, not {brief(settings)}")
    return resolve_layers(flat(settings or {}, None), environ={}, ignore_params=True).settings


def _checked(settings: Settings) -> Settings:
    """The settings, or UserError where they are something else, such as a dict."""
    if not isinstance(settings, Settings):
        raise UserError(f"settings are what attcli.resolve returns, not {brief(settings)}; pass attcli.resolve(...)")
    return settings


@contextmanager
def _run(settings: Settings, force: bool = False) -> Iterator[Run]:
    """A run of these settings, whose work as many processes share as they say."""
    with jobs.workers(_checked(settings).runtime.workers):
        runtime.configure(settings.runtime.threads, settings.runtime.deterministic)
        yield Run(settings, force=force)


def prepare(settings: Settings, *, force: bool = False) -> Path:
    """Make the dataset's file, as `attcli prepare` does; returns its path."""
    with _run(jobs.alone(_checked(settings)), force) as run:
        pipeline.prepare(run)
        return run.dataset


def buffer(settings: Settings, *, force: bool = False) -> Path:
    """Train the experts, as `attcli buffer` does; returns their folder."""
    with _run(settings, force) as run:
        pipeline.buffer(run)
        return run.experts


def distill(settings: Settings, *, force: bool = False) -> DistilledSet:
    """Distil, with all that is missing for it, as `attcli distill` does; returns the set."""
    with _run(settings, force) as run:
        pipeline.distill(run)
        return load(run.synthetic)


def evaluate(settings: Settings, path: str | Path | None = None) -> dict[str, Any]:
    """Score the results' set, or the one in `path`, as `attcli evaluate` does.

    Returns {"scores": {network: {kind: {"mean", "sd", "n", "accuracies", "per_class", "confusion"}}}, "protocol",
    "set", "work"}, accuracies in percent; docs/scores.md says what each is.
    """
    with _run(settings) as run:
        return pipeline.evaluate(run, None if path is None else Path(path))
