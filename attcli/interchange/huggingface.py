"""A dataset folder of the Hugging Face Hub: what anybody can look at, beside the set itself.

data/train-00000-of-00001.parquet holds pictures in 8 bits, classes and soft labels, which `datasets.load_dataset` and
the Hub's viewer open; distilled.safetensors (and normaliser.safetensors) holds all of the set, which is what is read
back; README.md is the card. Writing the Parquet file needs the package `datasets`; reading a folder does not.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attcli import coding
from attcli.errors import UserError, one_line
from attcli.interchange import Format, packing, safetensors

if TYPE_CHECKING:
    from attcli.interchange import Whole

FORMAT = Format("a dataset folder of the Hugging Face Hub, with distilled.safetensors")
CARD = "README.md"
PREVIEW = "data/train-00000-of-00001.parquet"
PARTS = (CARD, PREVIEW, safetensors.NAME, safetensors.NORMALISER)
"""All files of such a folder, relative to it."""

SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
"""How the Hub names how many images there are."""


def recognises(path: Path) -> bool:
    """Whether it is a folder with a set and a card."""
    return (path / safetensors.NAME).is_file() and (path / CARD).is_file()


def read(path: Path) -> Whole:
    """The set, whatever the card and the pictures say. UserError where there is none, or it is damaged."""
    return safetensors.read(path)


def losses(whole: Whole, variant: str) -> list[str]:
    """What is not at hand: the folder holds all of the set."""
    return safetensors.losses(whole, variant)


def files(folder: Path, whole: Whole) -> list[Path]:
    """What `write` writes. UserError where the package is missing that writes Parquet, or there can be no pictures."""
    _package()
    whole.known_normaliser()
    if (channels := whole.header.about["channels"]) not in (1, 3):
        raise UserError(
            f"pictures have 1 or 3 channels, the set's images {channels}; use another form, as --to safetensors"
        )
    return [folder / CARD, folder / PREVIEW, *safetensors.files(folder, whole)]


def _package() -> Any:
    try:
        import datasets
    except ImportError:
        raise UserError(
            "this form needs the package datasets, which is missing; run pip install 'attcli[hf]'"
        ) from None
    return datasets


def write(folder: Path, whole: Whole, variant: str) -> None:
    """Write the set, its pictures, and the card. The pictures are those of the variant."""
    from attcli.atomic import atomic
    from attcli.store.files import write_text

    datasets = _package()
    import pyarrow
    from pyarrow import parquet

    safetensors.write(folder, whole, variant)
    distilled, about = packing.decoded(whole), whole.header.about
    soft = distilled.labels if distilled.labels.is_floating_point() else None
    each = len(distilled.labels) // len(about["classes"])
    columns: dict[str, Any] = {
        "image": [{"bytes": png, "path": None} for png in _pngs(whole, variant)],
        "label": [row // each for row in range(len(distilled.labels))],
    }
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=about["classes"])}
    if soft is not None:
        columns["soft_label"] = soft.float().tolist()
        features["soft_label"] = datasets.List(datasets.Value("float32"), length=soft.shape[1])
    table = pyarrow.Table.from_pydict(columns, schema=datasets.Features(features).arrow_schema)
    with atomic(folder / PREVIEW) as temporary:
        parquet.write_table(table, temporary)
    write_text(folder / CARD, card(whole, soft is not None))


def _pngs(whole: Whole, variant: str) -> Iterator[bytes]:
    """The images as PNG files."""
    from PIL import Image

    for picture in packing.pictures(whole, variant)[0]:
        stream = io.BytesIO()
        Image.fromarray(picture.permute(1, 2, 0).squeeze(2).contiguous().numpy()).save(stream, format="PNG")
        yield stream.getvalue()


def card(whole: Whole, soft: bool) -> str:
    """The card: what the Hub reads, in YAML, and what a person should know."""
    from ruamel.yaml import YAML
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString as Quoted

    about, distilled = whole.header.about, packing.decoded(whole)
    names = {Quoted(str(number)): Quoted(name) for number, name in enumerate(about["classes"])}
    features: list[dict[str, Any]] = [
        {"name": "image", "dtype": "image"},
        {"name": "label", "dtype": {"class_label": {"names": names}}},
    ]
    if soft:
        features.append({"name": "soft_label", "list": "float32", "length": len(names)})
    images = len(distilled.labels)
    facts = {
        "pretty_name": Quoted(f"{about['dataset']}, distilled by {about['method']}"),
        "license": "unknown",
        "task_categories": ["image-classification"],
        "source_datasets": [Quoted(f"extended|{about['dataset']}")],
        "tags": ["dataset-distillation", "attcli"],
        "size_categories": [next((name for limit, name in SIZES if images < limit), "n>1M")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": PREVIEW}]}],
        "dataset_info": {"features": features, "splits": [{"name": "train", "num_examples": images}]},
    }
    text = io.StringIO()
    writer = YAML()
    writer.width = 2**30
    writer.dump(facts, text)
    return f"---\n{text.getvalue()}---\n\n{_words(whole)}"


def _words(whole: Whole) -> str:
    about, distilled = whole.header.about, packing.decoded(whole)
    protocol = {name: value for name, value in about["protocol"].items() if value is not None}
    kept = about.get("coding") or coding.PLAIN
    lines = [
        f"# {_shown(about['dataset'])}, distilled by {_shown(about['method'])}",
        "",
        f"A synthetic set for training networks: {coding.in_words(distilled.size)}, made from "
        f"{_shown(about['dataset'])}. The",
        "pictures in `data/` are for looking at, in 8 bits. The set itself is `distilled.safetensors`:",
        "",
        "```python",
        "import attcli",
        "",
        "distilled = attcli.load(PATH)  # the folder of this card",
        'model = distilled.train("convnet")',
        "```",
        "",
        f"- learning rate: {distilled.lr:g}",
        f"- network: {_listed(about['network'])}",
        f"- protocol: {_listed(protocol)}",
        f"- normaliser: {about['normaliser']['kind']}",
        f"- kept as: {kept['parameterisation']['name']} in {kept['storage']['name']}",
        f"- iteration: {about['iteration']}",
        "",
        "`license` above is unknown: say the licence of the images that the set was made from.",
        "",
    ]
    return "\n".join(lines)


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(_shown(f"{name} {value}") for name, value in values.items())


def _shown(words: str) -> str:
    """Words of the set's header in the card: one line, in which nothing is a link, a picture or HTML."""
    return re.sub(r"([\\`\[\]<>|])", r"\\\1", one_line(words))
