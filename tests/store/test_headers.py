"""What a set's header may say."""

from collections.abc import Callable

import pytest

from attcli import registry
from attcli.scoring.protocol import NAMED
from attcli.settings import resolve
from attcli.stages import identity, pipeline
from attcli.stages.run import Run
from attcli.store import headers, synthetic


@pytest.mark.parametrize("name", registry.names("method"))
def test_a_sets_header_may_say_how_its_method_augments(name: str) -> None:
    flags = {"distill.method": name, "prepare.dataset": "digits", "distill.ipc": 1}
    settings = resolve(flags, environ={}, ignore_params=True).settings
    headers.Protocol.model_validate(identity.protocol(settings))


@pytest.mark.parametrize("name", NAMED)
def test_a_sets_header_may_say_how_a_protocol_augments(name: str) -> None:
    headers.Protocol.model_validate({"augment": NAMED[name].augment})


@pytest.mark.parametrize("augment", ["", "none+flip", "flip+", "+flip", "flip++crop", "blur"])
def test_a_header_with_another_augmentation_is_impossible(augment: str) -> None:
    with pytest.raises(ValueError, match="augment"):
        headers.Protocol.model_validate({"augment": augment})


def test_a_set_whose_augmentation_has_several_parts_is_read_and_scored(make_run: Callable[..., Run]) -> None:
    changes: dict[str, object] = {"distill__method": "idc", "distill__augment": "color+crop+cutout"}
    changes |= {"distill__outer_steps": 2, "distill__network_images": 50, "distill__real_per_class": 9}
    run = make_run(**changes, distill__ipc=1, distill__iterations=2)
    pipeline.distill(run)
    assert synthetic.read(run.synthetic).about["protocol"]["augment"] == "color+crop+cutout"
    pipeline.distill(make_run(**changes, distill__ipc=1, distill__iterations=3))
    report = pipeline.evaluate(make_run(**changes, distill__ipc=1, distill__iterations=3, evaluate__repeats=1))
    assert report["protocol"]["augment"] == "color+crop+cutout"
