"""The identities of distillations: they change with what is computed, and with nothing else."""

import pytest

from attcli.settings import resolve
from attcli.stages import identity


def of(method: str, **changes: object) -> str:
    """The fingerprint of a distillation of the digits."""
    settings = {"prepare.dataset": "digits", "distill.method": method}
    settings |= {name.replace("__", "."): value for name, value in changes.items()}
    return identity.distill(resolve(settings, ignore_params=True).settings, "a" * 64, "b")[0]


@pytest.mark.parametrize(
    ("method", "fingerprint"),
    [
        ("dm", "14a6d80809a6a626"),
        ("dc", "a5bb7f135c4ce210"),
        ("dsa", "aebf7bad046f03ac"),
        ("idc", "629d1fc582aaec7b"),
        ("ld", "eb36e5b753afe450"),
        ("real-loss", "4f15c518ff3de423"),
        ("att", "dc1494f781053cc1"),
        ("mtt", "66f56523900fbf76"),
        ("datm", "b56bc7da0a9fb64c"),
        ("pad", "00befd962686a752"),
        ("att+datm", "d943293a5e8411b6"),
    ],
)
def test_work_of_earlier_versions_is_found(method: str, fingerprint: str) -> None:
    """Where one changes on purpose, as something else is computed, it changes here too; never by accident."""
    assert of(method) == fingerprint


def test_what_an_objective_does_not_read_changes_nothing() -> None:
    assert of("dm", distill__max_loss=1.0, distill__engine="unroll") == of("dm")
    assert of("att", distill__max_loss=1.0) != of("att")
