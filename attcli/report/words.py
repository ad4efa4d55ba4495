"""Numbers and names as a page has them."""

from datetime import datetime

from attcli.errors import one_line
from attcli.records.model import Score
from attcli.report.model import Facts

KINDS = {
    "synthetic": "distilled images",
    "ema": "their moving average",
    "random": "random real images",
    "random-kept": "random real, kept alike",
    "random-webp": "random real, as WebP",
    "herding": "real, by herding",
    "k-center": "real, by k-center",
    "forgetting": "real, by forgetting",
    "whole": "all real images",
}
"""What networks were trained on; baselines of other packages have their own names."""

OWN_IMAGES, FROM_HUB = "folder", "hf:"
"""The dataset of somebody's own images, and how names of datasets on the Hugging Face Hub begin."""

NETWORKS = {"convnet": "ConvNet", "mlp": "MLP", "vit": "ViT", "lenet": "LeNet", "alexnet": "AlexNet"}

MINUTE, HOUR, DAY = 60, 3600, 86_400


def kind(name: str) -> str:
    """What networks were trained on, in words."""
    return KINDS.get(name, one_line(name))


def dataset(name: str) -> str:
    """A dataset's name as a title has it."""
    return "Own images" if name == OWN_IMAGES else one_line(name.removeprefix(FROM_HUB))


def network(name: str) -> str:
    """A network's name, as papers write it where they have one way to."""
    plain = name.replace("resnet", "ResNet").replace("vgg", "VGG") if name.isalnum() else name
    return NETWORKS.get(name, one_line(plain))


def accuracy(score: Score) -> str:
    """`94.7 ± 0.5`, in percent; without the spread for a single network."""
    return f"{score.mean:.1f}" + ("" if score.sd is None else f" ± {score.sd:.1f}")


def size(count: float) -> str:
    """Bytes, as `640 bytes`, `2.6 kB` or `1.23 MB`."""
    if count < 1000:
        return f"{count:,.0f} bytes" if count != 1 else "1 byte"
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 999.5 or unit == "TB":
            break
    return f"{count:.3g} {unit}"


def duration(seconds: float) -> str:
    """A time, as `0.8 s`, `41 s`, `3 min 20 s`, `2 h 5 min` or `3 days 4 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    minutes = round(seconds / MINUTE)
    if minutes < DAY // MINUTE:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / HOUR)
    return f"{hours // 24} day{'s' if hours // 24 > 1 else ''} {hours % 24} h"


def count(number: float, noun: str) -> str:
    """`1 image`, `1,147 images`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def day(date: str) -> str:
    """A day as `26 Nov 2026`, in one piece."""
    return f"{datetime.fromisoformat(date):%d %b %Y}".lstrip("0").replace(" ", "\N{NO-BREAK SPACE}")


def headline(facts: Facts) -> Score | None:
    """The score that stands first: of the set's own network, or of the first one, on the distilled images."""
    scores = facts.scores.get(facts.about.arch) or next(iter(facts.scores.values()), None)
    return None if scores is None else scores.last.get("synthetic") or next(iter(scores.last.values()), None)
