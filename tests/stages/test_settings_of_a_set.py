"""The settings that a set says it was made with, and params files of them that make the same set again."""

import copy
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attcli.errors import UserError
from attcli.settings import Settings, resolve
from attcli.settings.recipes import all_recipes, get
from attcli.stages import identity
from attcli.stages.settings_of_a_set import of_set
from attcli.store import artefact, states, synthetic
from tests.conftest import Cli
from tests.interchange import released
from tests.test_cli import refused

RESULT = Path("artifacts/synthetic.h5")
FEW_JUDGES = ("buffer.difficulty_networks=1", "buffer.difficulty_epochs=1")

VARIED = {
    "seeds": ("seed=3", "distill.seed=5", "prepare.limit_per_class=50"),
    "trainer": ("buffer.trainer=ftd", "buffer.precision=bfloat16", "distill.select=last"),
    "labels": ("distill.method=datm", "distill.current_max_start_epoch=1", "buffer.epochs=6"),
    "labels of the same epochs": ("distill.labels=learned",),
    "correct images": ("distill.init=correct", "distill.ipc=2", "buffer.epochs=5"),
    "coded": ("distill.method=att+multiformation+codes", "distill.batch_syn=10", "distill.lr_img=5"),
    "compact": ("buffer.waypoints=3", "buffer.epochs=6"),
    "regions": ("distill.emphasis=cam", "buffer.epochs=6"),
    "without experts": ("distill.method=dm", "distill.lr_img=1", "distill.init=ranked", *FEW_JUDGES),
    "experts that judge": (
        "distill.method=dm",
        "distill.init=correct",
        "distill.max_start_epoch=5",
        "distill.label_epoch=4",
    ),
    "experts that label": (
        *("distill.method=real-loss", "distill.labels=learned", "distill.max_start_epoch=1", "distill.expert_epochs=1"),
        *("distill.syn_steps=2", "distill.real_batch=20"),
    ),
    "few images": ("distill.method=dm", "prepare.limit_per_class=15", "prepare.validation=0", "buffer.batch=32"),
    "not read": ("distill.method=datm", "distill.window=fixed", "distill.current_max_start_epoch=null"),
    "judged": ("distill.init=ranked", *FEW_JUDGES),
    "easy first": ("buffer.curriculum=easy-first", *FEW_JUDGES),
    "network": ("network.pooling=max", "network.norm=batch", "distill.patience=4"),
    "protocol": ("evaluate.epochs=null", "evaluate.augment=crop", "evaluate.momentum=0.5"),
}


@pytest.mark.parametrize("changes", VARIED.values(), ids=VARIED)
def test_a_set_is_made_again_from_its_file_alone(
    changes: tuple[str, ...], cli: Cli, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.small("distill", *[word for change in changes for word in ("--set", change)], "--iterations", "2")
    own = RESULT.resolve()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    cli("recipes", "use", str(own))
    cli("distill")
    assert RESULT.read_bytes() == own.read_bytes()
    assert cli("config", "--diff", str(own)) == f"no setting differs from {own}\n"


def test_a_snapshot_is_made_again(cli: Cli) -> None:
    cli.small("distill")
    (first, *_) = states.snapshots(Path("artifacts/snapshots"))
    Path("snapshot").write_bytes(first.read_bytes())  # a name without .h5
    cli("recipes", "use", "snapshot")
    cli("distill", "--artifacts", "again", "--set", "runtime.work_dir=other")
    again = states.snapshots(Path("again/snapshots"))
    assert again == [Path("again/snapshots") / first.name]
    assert again[0].read_bytes() == first.read_bytes()


def test_a_set_from_imported_experts_names_them(cli: Cli) -> None:
    released.buffers(Path("buffers"), files=1)
    flags = cli.small("import", "buffers").removeprefix("distil from them with").split()
    cli.small("distill", *flags)
    cli("recipes", "use", str(RESULT))
    assert f"buffer.imported={of_set(RESULT).buffer.imported}" == flags[3]
    assert "distill   nothing to do: 6 iterations" in cli("distill", "--dry-run")


def _altered(settings: Settings) -> dict[str, Any]:
    """Other values than the recipe's, so that a setting that is lost does not come back by the recipe."""
    altered: dict[str, Any] = {"seed": 4, "distill.iterations": 77, "evaluate.momentum": 0.5, "evaluate.epochs": None}
    altered |= {"distill.lr_img": 3.5, "distill.ema_decay": 0.75, "evaluate.augment": "crop"}
    if settings.reads_experts and settings.buffer.imported is None:
        altered |= {"buffer.lr": 0.007, "buffer.batch": 77, "buffer.experts": 33, "buffer.seed": 9}
        altered |= {"buffer.epochs": settings.matched_epochs + 3} if settings.distill.label_epoch is None else {}
    return altered


@pytest.mark.parametrize("name", all_recipes())
def test_every_recipe_is_said_by_its_sets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "files", lambda settings: {})  # of images that are not here
    selectors = get(name).experiment.settings()
    made_with = resolve(selectors, environ={}, ignore_params=True).settings
    for changes in ({}, _altered(made_with)):
        made_with = resolve({**selectors, **changes}, environ={}, ignore_params=True).settings
        about = {
            "dataset": made_with.prepare.dataset,
            "method": made_with.distill.method,
            "ipc": made_with.distill.ipc,
            "iteration": made_with.distill.iterations,
            "seed": made_with.seed_of("distill"),
            "protocol": identity.protocol(made_with),
            "prepare": identity.prepare(made_with)[1],
            "made_with": identity.made_with(made_with),
        }
        said = json.loads(json.dumps({"settings": identity.distillation(made_with), "about": about}))
        monkeypatch.setattr(synthetic, "header", lambda path, said=said: SimpleNamespace(**said))
        assert _decisive(of_set(Path("set.h5"))) == _decisive(made_with)


def _decisive(settings: Settings) -> dict[str, Any]:
    return {
        "prepare": identity.prepare(settings),
        "buffer": identity.buffer(settings, "dataset") if settings.reads_experts else None,
        "distill": identity.distill(settings, "dataset", "experts"),
        "protocol": identity.protocol(settings),
        "iterations": settings.distill.iterations,
        "experts": settings.buffer.experts if settings.reads_experts else None,
        "epochs": settings.epochs if settings.reads_experts else None,
    }


def test_seeds_are_those_of_the_stages(cli: Cli) -> None:
    cli.small("distill", "--set", "seed=3", "--set", "distill.seed=5")
    settings = of_set(RESULT)
    assert (settings.seed, settings.distill.seed, settings.buffer.seed) == (3, 5, None)
    cli.small("distill", "--seed", "7", "--artifacts", "other")
    settings = of_set(Path("other/synthetic.h5"))
    assert (settings.seed, settings.distill.seed) == (0, 7)


def test_what_a_file_does_not_say(cli: Cli) -> None:
    cli.small("distill")
    cli.small("distill", "--from", str(RESULT), "--artifacts", "begun")
    line = refused(cli, "recipes", "use", "begun/synthetic.h5")
    assert "begun/synthetic.h5 began as another set, which it does not hold (" in line
    cli("export", "--to", "released", "--out", "out")
    cli.small("import", "out/images_best.pt", "--artifacts", "imported")
    line = refused(cli, "recipes", "use", "imported/synthetic.h5")
    assert "was imported, and does not say how it was distilled" in line
    np.save("hard.npy", np.arange(1247.0))
    words = ("--set", "distill.init=ranked", "--set", "buffer.difficulty=hard.npy", "--artifacts", "ranked")
    cli.small("distill", *words)
    line = refused(cli, "recipes", "use", "ranked/synthetic.h5")
    assert "ranks images by a file, which it does not hold ('sha256:" in line
    line = refused(cli, "recipes", "use", "att/digits/ipc1", "--data-dir", "pictures")
    assert "--data-dir is for a set's file; leave it out" in line
    line = refused(cli, "recipes", "use", "artifacts")
    assert "artifacts is a folder; name the set's file in it, such as artifacts/synthetic.h5" in line
    assert "none.h5 is missing; name a file that exists" in refused(cli, "recipes", "use", "none.h5")
    assert "is a file of kind 'dataset'" in refused(cli, "recipes", "use", "artifacts/dataset.h5")
    assert not Path("params.yaml").exists()


@pytest.fixture
def header(cli: Cli) -> artefact.Header:
    cli.small("distill", "--iterations", "2")
    return copy.deepcopy(synthetic.header(RESULT))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"about": {"made_with": None}}, "does not say all settings that it was made with: an older attcli wrote it"),
        ({"about": {"made_with": {"seed": None}}}, "can't be used here: seed: "),
        ({"about": {"made_with": {"prepare": [1]}}}, "does not say all settings that it was made with"),
        ({"about": {"iteration": 0}}, "the settings in artifacts/synthetic.h5 can't be used here: distill.iterations"),
        ({"settings": {"distill": {"foo": 1}}}, "can't be made again by what it says (distill.foo is 1 in it, null"),
        ({"about": {"made_with": {"buffer": {"lr": -1}}}}, "can't be used here: buffer.lr: "),
        ({"about": {"made_with": {"buffer": {"foo": 1}}}}, "can't be used here: buffer.foo: "),
        ({"about": {"made_with": {"buffer": {"seed": [1]}}}}, "can't be used here: buffer.seed: "),
        ({"about": {"made_with": {"distill": {"lr_img": 7}}}}, "distill.lr_img is 1.0 in it, 7.0 here"),
        (
            {"about": {"made_with": {"distill": {"start_from": "/etc/hostname"}}}},
            "began as another set, which it does ",
        ),
        (
            {"about": {"made_with": {"buffer": {"difficulty": "/etc/hostname"}}}},
            "ranks images by a file, which it does ",
        ),
        ({"settings": {"runtime": {"artifacts": "/tmp/x"}}}, "runtime.artifacts is '/tmp/x' in it, null here"),
        ({"about": {"files": "0" * 16}}, "the images in data are not those that it was made from"),
        ({"settings": {"distill": 5}}, "can't be made again by what it says ("),
    ],
)
def test_a_forged_or_older_header_gives_one_line(
    changes: dict[str, Any], said: str, header: artefact.Header, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part, entries in changes.items():
        target = getattr(header, part)
        for name, value in entries.items():
            target[name] = _changed(target.get(name, {}), value)
    monkeypatch.setattr(synthetic, "header", lambda path: header)
    with pytest.raises(UserError) as raised:
        of_set(RESULT)
    assert said in str(raised.value)


def _changed(kept: Any, value: Any) -> Any:
    """The value; for a dictionary what was kept, with what is in it changed."""
    if not isinstance(value, dict) or not isinstance(kept, dict):
        return value
    return {**kept, **{name: _changed(kept.get(name), entry) for name, entry in value.items()}}


def test_a_forged_header_leads_to_no_other_file(header: artefact.Header, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo("pipe")  # whoever opened it would wait for ever
    header.about["made_with"]["buffer"] |= {"curriculum": "easy-first", "difficulty": "pipe"}
    monkeypatch.setattr(synthetic, "header", lambda path: header)
    with pytest.raises(UserError, match="ranks images by a file"):
        of_set(RESULT)


def test_images_of_ones_own_have_to_be_the_sets(
    cli: Cli, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        folder = Path("pictures", name)
        folder.mkdir(parents=True)
        for number in range(40):
            Image.fromarray(random.integers(0, 256, (8, 8), "u1")).save(folder / f"{number}.png")
    Path("pictures/cats/1.png").write_bytes(b"none")
    own = (
        *("--set", "prepare.allow_unreadable=true"),
        "--data-dir",
        "pictures",
        "--set",
        "prepare.dataset=folder",
        "--set",
        "prepare.validation=0",
        "--set",
        "buffer.batch=32",
    )
    cli.small("distill", *own, "--iterations", "2")
    found, pictures = str(RESULT.resolve()), str(Path("pictures").resolve())
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert "name the folder of the images with --data-dir" in refused(cli, "recipes", "use", found)
    cli("recipes", "use", found, "--data-dir", pictures)
    cli("distill", "--data-dir", pictures)
    assert RESULT.read_bytes() == Path(found).read_bytes()
    Path(pictures, "cats", "0.png").unlink()
    monkeypatch.chdir(tmp_path_factory.mktemp("again"))
    line = refused(cli, "recipes", "use", found, "--data-dir", pictures)
    assert f"the images in {pictures} are not those that it was made from" in line
