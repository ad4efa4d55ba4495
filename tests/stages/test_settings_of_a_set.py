"""The settings that a set says it was made with, and params files of them that make the same set again."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attcli.settings import Settings, resolve
from attcli.settings.recipes import all_recipes, get
from attcli.stages import identity
from attcli.stages.settings_of_results import of_set
from attcli.store import synthetic
from tests.conftest import Cli
from tests.test_cli import refused

RESULT = Path("artifacts/synthetic.h5")

VARIED = {
    "plain": (),
    "seeds": ("seed=3", "buffer.seed=5", "prepare.limit_per_class=50"),
    "trainer": ("buffer.trainer=ftd", "buffer.precision=bfloat16", "distill.select=last"),
    "labels": ("distill.method=datm", "distill.current_max_start_epoch=1"),
    "coded": ("distill.method=att+multiformation+codes", "distill.batch_syn=10", "distill.label_storage=uint8"),
    "without experts": ("distill.method=dm", "distill.lr_img=1", "evaluate.augment=none", "evaluate.momentum=0.5"),
    "judged": ("distill.init=ranked", "buffer.difficulty_networks=1", "buffer.difficulty_epochs=1"),
    "easy first": ("buffer.curriculum=easy-first", "buffer.difficulty_networks=1", "buffer.difficulty_epochs=1"),
    "network": ("network.pooling=max", "network.norm=batch", "distill.patience=4", "prepare.validation=100"),
}


@pytest.mark.parametrize("changes", VARIED.values(), ids=VARIED)
def test_the_settings_of_a_set_find_the_set(cli: Cli, changes: tuple[str, ...]) -> None:
    words = [word for change in changes for word in ("--set", change)]
    cli.small("distill", *words, "--iterations", "2")
    cli("recipes", "use", str(RESULT))
    assert "distill   nothing to do: 2 iterations" in cli("distill", "--dry-run")
    assert cli("config", "--diff", str(RESULT)) == f"no setting differs from {RESULT}\n"


def test_a_set_is_made_again_from_its_file_alone(
    cli: Cli, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.small("distill", "--set", "seed=7", "--set", "distill.method=att+multiformation+uint8")
    own = RESULT.resolve()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    cli("recipes", "use", str(own))
    cli("distill")
    assert RESULT.read_bytes() == own.read_bytes()


@pytest.mark.parametrize("name", all_recipes())
def test_every_recipe_is_said_by_its_sets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_files", lambda settings: {})  # of images that are not here
    made_with = resolve(get(name).experiment.settings(), environ={}, ignore_params=True).settings
    about = {
        "dataset": made_with.prepare.dataset,
        "method": made_with.distill.method,
        "ipc": made_with.distill.ipc,
        "iteration": made_with.distill.iterations,
        "seed": 0,
        "protocol": identity.protocol(made_with),
        "prepare": identity.prepare(made_with)[1],
        **({"buffer": identity.making_of_experts(made_with)} if made_with.reads_experts else {}),
    }
    said = json.loads(json.dumps({"settings": identity.distillation(made_with), "about": about}))
    monkeypatch.setattr(synthetic, "header", lambda path: SimpleNamespace(**said))
    again = of_set(Path("set.h5"))
    assert _decisive(again) == _decisive(made_with)


def _decisive(settings: Settings) -> dict[str, Any]:
    return {
        "prepare": identity.prepare(settings),
        "buffer": identity.buffer(settings, "dataset") if settings.reads_experts else None,
        "distill": identity.distill(settings, "dataset", "experts"),
        "protocol": identity.protocol(settings),
        "iterations": settings.distill.iterations,
        "experts": settings.buffer.experts if settings.reads_experts else None,
    }


def test_what_a_file_does_not_say(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.small("distill")
    begun = ("--from", str(RESULT), "--artifacts", "begun")
    cli.small("distill", *begun)
    line = refused(cli, "recipes", "use", "begun/synthetic.h5")
    assert "begun/synthetic.h5 began as another set, which it does not hold (SHA-256 " in line
    cli("export", "--to", "released", "--out", "out")
    cli.small("import", "out/images_best.pt", "--artifacts", "imported")
    line = refused(cli, "recipes", "use", "imported/synthetic.h5")
    assert "was imported, and does not say how it was distilled" in line
    header = synthetic.header(RESULT)
    del header.about["buffer"]  # as those that are older than this
    monkeypatch.setattr(synthetic, "header", lambda path: header)
    assert "how its experts were trained is not said in it" in refused(cli, "recipes", "use", str(RESULT))
    assert not Path("params.yaml").exists()
