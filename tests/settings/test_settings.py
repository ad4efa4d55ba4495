"""Where settings come from, and what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from attcli import registry
from attcli.errors import UserError
from attcli.settings import Settings, recipes, resolve
from attcli.settings.completeness import params_of
from attcli.settings.files import read_yaml
from attcli.settings.layers import assignment, flat, names, values_of
from attcli.settings.models import CONTENT
from attcli.settings.recipes import all_recipes
from attcli.stages import identity

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_defaults_are_those_of_the_paper_on_cifar10() -> None:
    found = resolve(environ={})
    assert found.settings.prepare.dataset == "cifar10"
    assert found.settings.distill.syn_steps == 80
    assert found.settings.distill.lr_lr == 1e-7
    assert found.origin["distill.syn_steps"] == "recipe att/cifar10/ipc1"


def test_ipc_50_finds_its_recipe() -> None:
    settings = resolve({"distill.ipc": 50}, environ={}).settings
    assert (settings.distill.syn_steps, settings.distill.lr_init, settings.prepare.normalise) == (
        50,
        0.001,
        "literature",
    )
    assert settings.distill.iterations == 1_000_000


@pytest.mark.parametrize(
    ("method", "dataset", "normalise"),
    [
        ("att", "mnist", "standardise"),
        ("mtt", "fashionmnist", "standardise"),
        ("ftd", "svhn", "standardise"),
        ("datm", "imagewoof", "literature"),
        ("tesla", "tinyimagenet", "literature"),
    ],
)
def test_without_a_recipe_the_dataset_says_how_images_are_normalised(method: str, dataset: str, normalise: str) -> None:
    flags = {"distill.method": method, "prepare.dataset": dataset}
    resolved = resolve(flags, environ={})
    assert (resolved.settings.prepare.normalise, resolved.origin["prepare.normalise"]) == (
        normalise,
        f"dataset {dataset}",
    )
    Path("params.yaml").write_text("prepare: {normalise: zca, resolution: 32}\n")
    assert resolve(flags, environ={}).settings.prepare.normalise == "zca"


def test_a_recipe_says_how_images_are_normalised_before_the_dataset_does() -> None:
    resolved = resolve({"distill.method": "datm", "prepare.dataset": "tinyimagenet"}, environ={})
    assert (resolved.settings.prepare.normalise, resolved.origin["prepare.normalise"]) == (
        "zca",
        "recipe datm/tinyimagenet/ipc1",
    )


def test_flags_before_params_before_recipe() -> None:
    Path("params.yaml").write_text("distill: {ipc: 10, syn_steps: 7, lr_img: 5}\n")
    found = resolve({"distill.lr_img": 9.0}, environ={})
    assert (found.settings.distill.lr_img, found.origin["distill.lr_img"]) == (9.0, "flag")
    assert (found.settings.distill.syn_steps, found.origin["distill.syn_steps"]) == (7, "params.yaml")
    assert found.origin["distill.lr_lr"] == "recipe att/cifar10/ipc10"
    assert found.origin["distill.momentum_lr"] == "recipe att/cifar10/ipc10"
    assert found.origin["seed"] == "default"


def test_environment_reaches_runtime_settings_only() -> None:
    found = resolve(environ={"ATTCLI_THREADS": "2", "ATTCLI_DATA_DIR": "/d"})
    assert found.settings.runtime.threads == 2
    assert found.settings.runtime.data_dir == Path("/d")
    assert found.origin["runtime.threads"] == "environment"
    with pytest.raises(UserError, match="ATTCLI_IPC is no runtime setting; unset it and use --set"):
        resolve(environ={"ATTCLI_IPC": "5"})


def test_folders_named_by_numbers_are_folders() -> None:
    assert resolve(environ={"ATTCLI_ARTIFACTS": "12345"}).settings.runtime.artifacts == Path("12345")
    assert assignment("runtime.work_dir=2026") == ("runtime.work_dir", "2026")
    assert assignment("distill.start_from=null") == ("distill.start_from", None)


def test_a_params_file_with_the_choices_of_another_method_is_told() -> None:
    Path("params.yaml").write_text("distill: {method: mtt, select: nearest, lr_img: 3}")
    assert resolve(environ={}).unlike == {"distill.select": ("nearest", "last")}
    Path("params.yaml").write_text("distill: {method: att, select: nearest, lr_img: 3}")
    assert not resolve(environ={}).unlike
    Path("params.yaml").write_text("distill: {select: last}")
    assert resolve(environ={}).unlike == {"distill.select": ("last", "nearest")}


def test_a_params_file_that_leads_nowhere_is_told() -> None:
    Path("params.yaml").symlink_to("away.yaml")
    with pytest.raises(UserError, match=r"params\.yaml"):
        resolve(environ={})


def test_flags_before_environment() -> None:
    assert resolve({"runtime.threads": 1}, environ={"ATTCLI_THREADS": "2"}).settings.runtime.threads == 1


@pytest.mark.parametrize("text", ["distill: {lr_lr: 1e-07}", "distill: {lr_lr: 1.0e-7}", "distill: {lr_lr: 0.0000001}"])
def test_floats_are_floats(text: str) -> None:
    Path("params.yaml").write_text(text)
    assert resolve(environ={}).settings.distill.lr_lr == 1e-7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("distill: {ipc: 1\n", r"params\.yaml, line 1 is not valid YAML: a bracket .* is not closed"),
        ("distill:\n  ipc: 1\n  ipc: 2\n", r"params\.yaml, line 3 is not valid YAML: 'ipc' is there twice"),
        ("- a\n", r"must hold sections such as `distill:`"),
        ("distill: 3\n", r"section 'distill' must hold settings"),
        (
            "distill: {ipcs: 1}\n",
            r"unknown setting in params\.yaml, line 1: 'distill\.ipcs'; did you mean 'distill\.ipc'\?",
        ),
        ("surprise: {ipc: 1}\n", r"unknown setting in params\.yaml, line 1: 'surprise'"),
    ],
)
def test_bad_params(text: str, message: str) -> None:
    Path("params.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        resolve(environ={})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"distill.ipc": 0},
            r"distill\.ipc: input should be greater than or equal to 1, not 0 \(from flag\); "
            r"see `attcli config distill\.ipc --describe`",
        ),
        ({"distill.ipc": "many"}, r"distill\.ipc: input should be a whole number, not 'many'"),
        ({"prepare.dataset": "cifar11"}, r"unknown dataset 'cifar11'; did you mean 'cifar10'\?"),
        ({"network.arch": "vgg12"}, r"unknown architecture 'vgg12'; did you mean 'vgg11'\?"),
        ({"evaluate.archs": "convnet,alexnett"}, r"unknown architecture 'alexnett'; did you mean 'alexnet'\?"),
        ({"distill.method": "at"}, r"unknown method 'at'; did you mean 'att'\?"),
        ({"distill.augment": "color_blur"}, r"unknown augmentation in distill\.augment: 'blur'"),
        ({"buffer.epochs": 3}, r"buffer\.epochs 3 is too few: matching reads 5 epochs .*set buffer\.epochs to auto"),
        ({"distill.min_start_epoch": 2}, r"min_start_epoch 2 leaves no start epoch below distill\.max_start_epoch 2"),
        ({"distill.ipc": 5001}, r"distill\.ipc 5001 is more than the 5000 training images of the smallest class"),
        ({"prepare.limit_per_class": 3, "distill.ipc": 4, "buffer.batch": 8}, r"distill\.ipc 4 is more than the 3"),
        (
            {"buffer.batch": 50_001},
            r"buffer\.batch 50001 is more than the 50000 training images; .* --set buffer\.batch=64",
        ),
        (
            {"distill.batch_syn": 11},
            r"distill\.batch_syn 11 is more than the set's 10 images; lower it, or set it to null",
        ),
        ({"prepare.validation": 50_000}, r"prepare\.validation 50000 leaves too little of 50000"),
        ({"distill.ema_decay": 1.0}, r"distill\.ema_decay: input should be less than 1"),
        ({"prepare.normalise": "pca"}, r"prepare\.normalise: input should be 'zca', 'contrast', 'standard"),
        (
            {"prepare.dataset": "digits", "prepare.normalise": "literature"},
            r"prepare\.normalise literature: there are no such figures for digits; set prepare\.normalise=standardise",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        resolve(changes, environ={})
    assert "\n" not in str(caught.value)


def test_noise_needs_no_real_images() -> None:
    assert resolve({"distill.ipc": 5001, "distill.init": "noise"}, environ={}).settings.distill.ipc == 5001


def test_assignments() -> None:
    assert assignment("distill.lr_img=1e3") == ("distill.lr_img", 1000.0)
    assert assignment("seed=4") == ("seed", 4)
    with pytest.raises(UserError, match="write --set key=value"):
        assignment("distill.ipc")
    with pytest.raises(UserError, match="unknown setting in --set ipc=1: 'ipc'"):
        assignment("ipc=1")


def test_every_setting_is_reached_by_set() -> None:
    plain = values_of(Settings())
    assert set(plain) == set(names())
    for name in names():
        section, _, key = name.partition(".")
        assert flat({section: {key: 1} if key else 1}, Path("x")) == {name: 1}


@pytest.mark.parametrize("name", list(all_recipes()))
def test_recipes_are_valid(name: str) -> None:
    recipe = all_recipes()[name]
    assert {*recipe.experiment.method.split("+")} <= {*registry.names("method")}
    found = resolve(recipe.experiment.settings(), environ={})
    for key, entry in recipe.values.items():
        assert found.origin[key] in (f"recipe {name}", f"method {recipe.experiment.method}")
        given = values_of(found.settings)[key]
        assert given == entry.value
        assert entry.source
    assert recipe.published is None or 0 < recipe.published["accuracy"] < 100


def test_published_values_of_att_on_cifar10() -> None:
    values = all_recipes()["att/cifar10/ipc10"].settings()
    assert values["distill.lr_img"] == 1e4
    assert values["distill.lr_lr"] == 1e-4
    assert values["distill.iterations"] == 60_000
    assert values["prepare.normalise"] == "zca"


def test_mtts_recipes_are_those_that_its_author_gave() -> None:
    names = ("syn_steps", "expert_epochs", "max_start_epoch", "lr_img", "lr_lr", "lr_init", "batch_syn")
    by_ipc = {
        "cifar10/ipc1": (50, 2, 2, 100, 1e-7, 0.01, None),
        "cifar10/ipc10": (30, 2, 20, 100, 1e-5, 0.001, None),
        "cifar10/ipc50": (30, 2, 40, 1000, 1e-5, 0.001, None),
        "cifar100/ipc10": (20, 2, 20, 1000, 1e-5, 0.01, None),
        "cifar100/ipc50": (80, 2, 40, 1000, 1e-5, 0.01, 125),
        "tinyimagenet/ipc1": (10, 2, 10, 10_000, 1e-4, 0.01, None),
        "tinyimagenet/ipc10": (20, 2, 40, 10_000, 1e-4, 0.01, 200),
        "tinyimagenet/ipc50": (20, 2, 40, 10_000, 1e-4, 0.01, 300),
    }
    whitened = {"cifar10/ipc1", "cifar10/ipc10", "cifar100/ipc50"}
    for name, values in by_ipc.items():
        recipe = all_recipes()[f"mtt/{name}"]
        assert tuple(recipe.values[f"distill.{setting}"].value for setting in names) == values
        assert recipe.values["prepare.normalise"].value == ("zca" if name in whitened else "literature")
        assert not any(entry.doubt for entry in recipe.values.values())


def test_students_by_adam_do_not_train_at_a_rate_for_sgd() -> None:
    values = all_recipes()["att+real-loss/cifar10/ipc1"].settings()
    assert values["distill.student_optimiser"] == "adam"
    assert values["distill.student_lr"] == 0.001
    assert values["distill.lr_lr"] == 0


def test_the_repositorys_params_are_the_complete_digits_recipe() -> None:
    assert (REPOSITORY / "params.yaml").read_text() == params_of("att/digits/ipc1")


def test_written_params_are_complete_and_read_back() -> None:
    Path("params.yaml").write_text(params_of("att/cifar10/ipc50"))
    found = resolve(environ={})
    assert found.content_not_from_params() == []
    again = resolve({"distill.ipc": 50}, environ={}, ignore_params=True)
    assert found.settings == again.settings
    assert set(read_yaml(Path("params.yaml"))) == set(CONTENT)


def test_the_nearest_recipe_serves_where_there_is_none() -> None:
    resolved = resolve({"prepare.dataset": "digits", "distill.ipc": 3}, environ={})
    assert resolved.recipe == "att/digits/ipc1"
    assert not resolved.recipe_found
    assert resolved.settings.network.width == 64
    assert resolve({"prepare.dataset": "digits", "distill.ipc": 8}, environ={}).recipe == "att/digits/ipc10"


def test_a_recipe_is_found_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    real = recipes.read_yaml
    monkeypatch.setattr(recipes, "read_yaml", lambda path: (opened.append(path), real(path))[1])
    recipes._of_file.cache_clear()
    assert recipes.get("datm/cifar100/ipc10").name == "datm/cifar100/ipc10"
    resolve({"prepare.dataset": "cifar100", "distill.method": "datm", "distill.ipc": 10}, environ={})
    assert len(opened) == 1


def test_settings_load_no_torch() -> None:
    code = (
        "import sys; from attcli.settings import resolve; resolve({'distill.method': 'att+datm'}, environ={});"
        "print([m for m in ('torch', 'numpy', 'h5py', 'dvc') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_other_programs_variables_are_left_alone() -> None:
    resolve(environ={"ATTCLI_IMAGE_TAG": "v3"})
    with pytest.raises(UserError, match=r"ATTCLI_DEVISE is no setting; did you mean ATTCLI_DEVICE\?"):
        resolve(environ={"ATTCLI_DEVISE": "cpu"})
    with pytest.raises(UserError, match="ATTCLI_IPC is no runtime setting"):
        resolve(environ={"ATTCLI_IPC": "3"})


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 3000,
        "distill: {ipc: !!bool maybe}",
        "distill: {ipc: !!int ''}",
        "distill: {lr_img: !!float x}",
        "distill: {ipc: !!python/object:os.system x}",
        "distill: {ipc: '\x01'}",
        "\x00",
        "distill: {method: " + "x" * 5000 + "}",
    ],
)
def test_hostile_params_end_in_one_printable_line(text: str) -> None:
    Path("params.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        resolve(environ={})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    "change",
    [
        {"network.width": 10**9},
        {"network.depth": 100_000},
        {"runtime.threads": 2**31},
        {"buffer.experts": 10**6},
        {"distill.iterations": 10**12},
        {"evaluate.repeats": 10**7},
    ],
)
def test_numbers_beyond_reason_are_refused_at_once(change: dict[str, object]) -> None:
    with pytest.raises(UserError, match="input should be less than or equal to"):
        resolve(change, environ={})


def test_names_are_accepted_in_any_case() -> None:
    settings = resolve({"distill.method": "ATT+DATM", "prepare.dataset": "CIFAR-10"}, environ={}).settings
    assert (settings.distill.method, settings.prepare.dataset) == ("att+datm", "cifar10")
    assert resolve({"evaluate.archs": "ConvNet, VGG11"}, environ={}).settings.evaluate.archs == ("convnet", "vgg11")


def test_what_no_choice_reads_is_in_no_identity() -> None:
    base = {"prepare.dataset": "digits", "distill.method": "att"}

    def identities(**changes: object) -> tuple[object, ...]:
        settings = resolve({**base, **{k.replace("__", "."): v for k, v in changes.items()}}, environ={}).settings
        return identity.buffer(settings, "x")[0], identity.distill(settings, "x", "y")[0]

    plain = identities()
    idle = {"distill__expansion_end": 7, "distill__lr_labels": 9.0, "buffer__rho": 0.5, "prepare__zca_eps": 0.3}
    for name, value in idle.items():
        assert identities(**{name: value}) == plain, name
    assert identities(distill__select="last", distill__select_metric="l2") == identities(distill__select="last")
    assert identities(distill__select_metric="l2") != plain
    assert identities(network__depth=3) != plain
    cifar = {"prepare__dataset": "cifar10"}
    assert identities(**cifar, network__depth=None) == identities(**cifar, network__depth=3)
