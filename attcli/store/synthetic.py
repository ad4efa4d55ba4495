"""synthetic.h5: a distilled set with all that scoring it needs."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attcli import coding
from attcli.coding import Coding
from attcli.data.normalise import Normaliser
from attcli.errors import UserError
from attcli.networks import Architecture
from attcli.options import VARIANTS
from attcli.parameterisations import Coded
from attcli.store import artefact, dataset, states
from attcli.store import normaliser as normaliser_file
from attcli.store.headers import MOST_PARAMETERS
from attcli.store.states import State

KIND = "synthetic"
MAKER = "attcli distill"


def write(path: Path, header: artefact.Header, state: State, decoder: Coding, normaliser: Normaliser) -> None:
    """Write the set as its storage keeps it. Of normalisers it holds standardisation, which is a few numbers."""
    artefact.write(path, states.header_of(header, KIND, state), arrays_of(state, decoder, normaliser))


def arrays_of(state: State, decoder: Coding, normaliser: Normaliser | None) -> artefact.Arrays:
    """The arrays of a set's file."""
    variants, beside = states.packed(decoder, state)
    arrays = {f"{variant}/{name}": array for variant, parts in variants.items() for name, array in parts.items()}
    small = normaliser_file.arrays_of(normaliser) if normaliser and normaliser.kind == "standardise" else {}
    rates = {states.RATES: state.rates} if states.RATES in state.learned else {}
    return {**arrays, **beside, **{n: x.detach().cpu().numpy() for n, x in {"lr": state.lr, **rates}.items()}, **small}


Instead = Callable[[dict[str, Any]], Normaliser | None]
"""From the facts of a set to a normaliser that serves as its own."""


def nothing(about: dict[str, Any]) -> None:
    """No normaliser."""


@dataclass(frozen=True)
class SyntheticSet:
    """A distilled set as read from a file: variants by name (`synthetic`, `ema`), labels and learning rate.

    rates: the learning rate of each step (N,) where students had one for each; lr is their mean.
    The variants are decoded: network inputs (n, C, H, W). labels are classes (n,) or logits (n, K). kept_bytes says for
    each variant how many bytes its arrays take in the file, with those that it needs beside its own: constants, labels
    (but not classes, which follow from the images' order), and the learning rate. Its normaliser is not counted. frozen
    (n,) is 1 for images that were not distilled; None where all were.
    """

    about: dict[str, Any]
    settings: dict[str, Any]
    variants: states.Tensors
    labels: Tensor
    lr: float
    sha256: str
    normaliser: Normaliser | None
    kept_bytes: dict[str, int]
    rates: Tensor | None = None
    frozen: Tensor | None = None
    fingerprint: str = ""
    """The identity of what made it."""

    @property
    def size(self) -> dict[str, Any]:
        """What the set costs: images and bytes per class, and those bytes as a number of float32 images."""
        about, classes = self.about, len(self.about["classes"])
        per_class = self.kept_bytes["synthetic"] / classes
        return coding.size(per_class, about["channels"], about["resolution"], len(self.labels) // classes)


def header(path: Path) -> artefact.Header:
    """The header of a set or of a snapshot, its arrays left alone."""
    kind = states.KIND if artefact.kind_of(path) == states.KIND else KIND
    return artefact.header(path, kind, MAKER)


def read(path: Path, kind: str | None = KIND, instead: Instead = nothing) -> SyntheticSet:
    """Read and verify a set, or with kind `states.KIND` the set in a snapshot, as its storage would keep it.

    With kind None it may be either. `instead` is asked for a normaliser where the set's own is not at hand.
    """
    if kind is None:
        kind = states.KIND if artefact.kind_of(path) == states.KIND else KIND
    return of(path, kind, *artefact.read(path, kind, MAKER), instead=instead)


def normaliser_of(path: Path, about: dict[str, Any], arrays: artefact.Arrays) -> Normaliser | None:
    """The normaliser of the set in a file, in it or beside it; None where it is not at hand."""
    return _normaliser(path, about, arrays)[0]


def of(
    path: Path,
    kind: str,
    header: artefact.Header,
    arrays: artefact.Arrays,
    normaliser: Normaliser | None = None,
    instead: Instead = nothing,
) -> SyntheticSet:
    """The set of this header and these arrays, which are checked; `path` says where they are from.

    Its normaliser is looked for beside the path, where it is not given; `instead` is asked where it is not there.
    """
    about, problems = header.about, ""
    if normaliser is None:
        normaliser, problems = _normaliser(path, about, arrays)
    if normaliser is None:
        normaliser = instead(about)
    decoder = states.coding_of(path, about, normaliser)
    if decoder.parameterisation.needs_normaliser and normaliser is None:
        raise UserError(
            f"{path} needs its normaliser{problems}: put the {normaliser_file.NAME} that was made with it beside it, "
            f"or the dataset.h5 that it was distilled from"
        )
    if kind == states.KIND:
        with states.refused(path):
            state = states.of(header, arrays)
        variants, labels = states.decoded(path, decoder, state)
        packed, beside = states.packed(decoder, state)
        lr, rates = float(state.lr), state.rates if states.RATES in state.learned else None
    else:
        packed = {name: parts for name in VARIANTS if (parts := states.below(name, arrays))}
        if "images" in arrays:  # files of schema 1
            old = {"synthetic": "images", "ema": "ema"}
            packed = {name: {"images/values": arrays[key]} for name, key in old.items() if key in arrays}
        needed = VARIANTS[:1] if "imported" in about else VARIANTS
        for name in needed:
            artefact.require(path, MAKER, name in packed, f"it has no array {name}")
        variants, labels = _unpacked(path, about, decoder, packed, arrays)
        beside = {name: x for name, x in arrays.items() if name.startswith(("constants/", "labels"))}
        artefact.require(path, MAKER, arrays["lr"].shape == (), "its learning rate is not one number")
        lr = float(arrays["lr"])
        rates = torch.from_numpy(arrays[states.RATES]) if states.RATES in arrays else None
    states.check(path, about, variants, labels, lr)
    if rates is not None:
        right = rates.dim() == 1 and len(rates) > 0 and bool((rates.isfinite() & (rates > 0)).all())
        artefact.require(path, MAKER, right, "the learning rates of its steps are not positive numbers")
    _check_network(path, about)
    if not labels.is_floating_point():
        beside.pop("labels", None)
    frozen = beside.get(f"constants/{states.FROZEN}")
    if frozen is not None:
        fits = frozen.shape == (len(labels),)
        artefact.require(path, MAKER, fits, "what says which images were not distilled does not fit them")
    of_rates = coding.FLOAT32_BYTES * (1 + (0 if rates is None else len(rates)))
    common = sum(array.nbytes for array in beside.values()) + of_rates
    return SyntheticSet(
        about=about,
        settings=header.settings,
        variants=variants,
        labels=labels,
        lr=lr,
        rates=rates,
        frozen=None if frozen is None else torch.from_numpy(frozen),
        sha256=header.sha256,
        fingerprint=header.fingerprint,
        normaliser=normaliser,
        kept_bytes={name: common + sum(array.nbytes for array in parts.values()) for name, parts in packed.items()},
    )


def _unpacked(
    path: Path, about: dict[str, Any], decoder: Coding, packed: dict[str, artefact.Arrays], arrays: artefact.Arrays
) -> tuple[states.Tensors, Tensor]:
    """The variants' images and the labels of a set's file. UserError where its arrays are not those of its choices."""
    count = states.count_of(about)
    constants = states.tensors("constants", arrays)
    with states.refused(path):
        variants = {
            name: decoder.parameterisation.decode(Coded(decoder.unpack(parts, count), constants), decoder.space)
            for name, parts in packed.items()
        }
        if decoder.label_storage is None or "labels" in arrays:
            return variants, torch.from_numpy(arrays["labels"])
        kept = states.below("labels", arrays)
        return variants, decoder.label_storage.unpack(kept, (count, len(about["classes"])))


def _normaliser(path: Path, about: dict[str, Any], arrays: artefact.Arrays) -> tuple[Normaliser | None, str]:
    """The set's normaliser: from its own file, or a file of normalisers beside it or one folder above, or a dataset.

    None where there is none; then also which files could not be read.
    """
    if "normaliser/mean" in arrays:
        normaliser_file.check(path, MAKER, about, arrays)
        return normaliser_file.of(about, arrays), ""
    digest, problems = about["normaliser"]["sha256"], []
    for folder in (path.parent, path.parent.parent):
        for file in (*sorted(folder.glob("normaliser*.h5")), folder / "dataset.h5"):
            try:
                if file.exists() and (normaliser := _in_file(file, digest)):
                    return normaliser, ""
            except UserError as error:
                problems.append(str(error))
    return None, f" ({'; '.join(problems)})" if problems else ""


def _in_file(file: Path, digest: str) -> Normaliser | None:
    """The normaliser with that hash in a file of its own or a dataset; none where it holds another."""
    if file.name != "dataset.h5":
        return normaliser_file.read(file, digest)
    kept = artefact.header(file, dataset.KIND, dataset.MAKER).about["normaliser"]["sha256"]
    return dataset.read(file).normaliser if kept == digest else None


def _check_network(path: Path, about: dict[str, Any]) -> None:
    """UserError where the network of the header has more parameters than any that is meant; none of them is allocated.

    Each option is bounded by itself, not their product. Networks that are not installed are told where they are needed.
    """
    try:
        count = _parameters(
            json.dumps([about["network"], about["channels"], len(about["classes"]), about["resolution"]])
        )
    except UserError:
        return
    except Exception as error:  # whatever a network raises on options that it does not know
        raise artefact.damaged(path, MAKER, f"its header is impossible: network: {error}") from None
    fits = count <= MOST_PARAMETERS
    artefact.require(path, MAKER, fits, f"its header is impossible: network: {count} parameters are too many")


@lru_cache
def _parameters(network: str) -> int:
    """The number of parameters of a network: [spec, channels, classes, resolution] in JSON, so that it can be kept."""
    spec, channels, classes, resolution = json.loads(network)
    about = {"channels": channels, "classes": range(classes), "resolution": resolution}
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Architecture.of(spec, about).build().parameters())
