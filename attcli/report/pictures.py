"""The images of a set as PNGs for a page, never more of them than a page can hold."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence

import torch
from PIL import Image
from torch import Tensor

from attcli.errors import one_line
from attcli.matching.batches import probabilities
from attcli.report.model import Pictures
from attcli.store.synthetic import SyntheticSet

MOST_BYTES = 6_000_000
"""Characters of base64 that all pictures of a page may take together."""

MOST_PICTURES = 3000
"""Pictures of a page, of all variants together."""

MOST_SHARES = 3
"""Classes that are named for a learned label."""


def of_set(distilled: SyntheticSet, most_bytes: int = MOST_BYTES, most_pictures: int = MOST_PICTURES) -> Pictures:
    """The pictures of a set, class by class. Of each class as many are taken as fit for all, but at least one.

    Where not even one of each fits, their sides are halved until it does.
    """
    names = list(distilled.about["classes"])
    per_class = len(distilled.labels) // len(names)
    variants = {name: _visible(distilled, images) for name, images in distilled.variants.items()}
    shrunk = 1
    while True:
        encoded = _rounds(variants, len(names), per_class, most_bytes, most_pictures)
        side = next(iter(variants.values())).shape[-1]
        if encoded is not None or side < 2:
            break
        shrunk *= 2
        variants = {name: torch.nn.functional.avg_pool2d(images, 2) for name, images in variants.items()}
    labels, own_share = _labels(distilled, names)
    return Pictures(
        variants=encoded or {},
        per_class=per_class,
        side=side,
        shrunk=shrunk,
        as_networks_see_them=distilled.normaliser is None,
        labels=labels,
        own_share=own_share,
    )


def _visible(distilled: SyntheticSet, images: Tensor) -> Tensor:
    """Values in [0, 1] of network inputs (n, C, H, W); without the normaliser, each image stretched to that range."""
    if distilled.normaliser is not None:
        return distilled.normaliser.inverse(images).clamp(0, 1)
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp(min=1e-12)


def _rounds(
    variants: Mapping[str, Tensor], classes: int, per_class: int, most_bytes: int, most_pictures: int
) -> dict[str, list[list[str]]] | None:
    """The PNGs by variant and class: one more of every class, as long as all of these fit. None where not one fits."""
    encoded: dict[str, list[list[str]]] = {name: [[] for _ in range(classes)] for name in variants}
    used, number = 0, len(variants) * classes
    for position in range(per_class):
        if position and (position + 1) * number > most_pictures:
            break
        pictures = {
            name: [png(images[label * per_class + position]) for label in range(classes)]
            for name, images in variants.items()
        }
        used += sum(len(text) for of_variant in pictures.values() for text in of_variant)
        if used > most_bytes:
            return encoded if position else None
        for name, of_variant in pictures.items():
            for label, text in enumerate(of_variant):
                encoded[name][label].append(text)
    return encoded


def png(image: Tensor) -> str:
    """An image (C, H, W) of values in [0, 1] as the base64 of a PNG: in colour where it has three channels or more."""
    values = (image * 255).round().to(torch.uint8).cpu()
    colour = values.shape[0] >= 3
    array = values[:3].permute(1, 2, 0).numpy() if colour else values[0].numpy()
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _labels(distilled: SyntheticSet, names: Sequence[str]) -> tuple[list[list[str]] | None, float | None]:
    """What learned labels say of each image, by class, and the mean share of an image's own class in percent."""
    if not distilled.labels.is_floating_point():
        return None, None
    shares = 100 * probabilities(distilled.labels, len(names)).double()
    per_class = len(shares) // len(names)
    own = torch.arange(len(names)).repeat_interleave(per_class)
    texts = list(map(str, (_in_words(row, names) for row in shares)))
    by_class = [texts[label * per_class : (label + 1) * per_class] for label in range(len(names))]
    return by_class, round(float(shares[torch.arange(len(shares)), own].mean()), 2)


def _in_words(shares: Tensor, names: Sequence[str]) -> str:
    """The likeliest classes of a label, as `cat 61 %, dog 22 %`."""
    values, classes = shares.topk(min(MOST_SHARES, len(names)))
    return ", ".join(_shares(values.tolist(), classes.tolist(), names))


def _shares(values: Sequence[float], classes: Sequence[int], names: Sequence[str]) -> Iterator[str]:
    for value, label in zip(values, classes, strict=True):
        yield f"{one_line(names[label])} {value:.0f} %"
