"""Gradient matching: its loss and gradients against plain autograd in float64, and the network that it trains."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from attcli import augment
from attcli.errors import UserError
from attcli.matching.outer import OPTIMISERS, Pace
from attcli.matching.step_functions import Derivatives, StepFunctions
from attcli.settings import recipes, resolve
from attcli.stages import cost, distill, forecast, inputs, pipeline
from attcli.stages.run import Run
from attcli.store import artefact, experts, synthetic
from tests.objectives.cases import PRECISE, begun, close, named, outputs_of
from tests.stages.observed import contents, states_of

SMALL: dict[str, object] = {
    "distill__objective": "gradient",
    "distill__ipc": 2,
    "distill__lr_img": 0.1,
    "distill__real_per_class": 9,
    "distill__network_lr": 0.05,
}


@pytest.fixture
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def distance(kind: str, layers: str, a: dict[str, Tensor], b: dict[str, Tensor]) -> Tensor:
    """How far two gradients, by name, are apart, as the papers say it."""
    total = torch.zeros(())
    for name, real in a.items():
        if real.dim() < 2 or (layers == "convolutions" and real.dim() != 4):
            continue
        own = b[name]
        if kind == "cosine":
            for one, other in zip(real.flatten(1), own.flatten(1), strict=True):
                total = total + 1 - one @ other / (one.norm() * other.norm() + 1e-6)
        else:
            total = total + ((real - own) ** 2 if kind == "squares" else (real - own).abs()).sum()
    return total


@pytest.mark.cpu
@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize(
    ("kind", "layers", "strategy", "labels"),
    [
        ("cosine", "weights", "color_crop_cutout_flip_scale_rotate", "hard"),
        ("squares", "convolutions", "none", "learned"),
        ("absolute", "weights", "flip_scale", "learned"),
    ],
)
def test_its_gradient_is_that_of_the_plain_graph(
    kind: str, layers: str, strategy: str, labels: str, make_run: Callable[..., Run]
) -> None:
    chosen = {"distill__gradient_distance": kind, "distill__matched_layers": layers, "distill__augment": strategy}
    run = make_run(**SMALL, **PRECISE, **chosen, runtime__micro_batch=4, distill__set_per_class=1)
    _, objective, state, images = begun(run, labels=labels)
    soft = torch.randn(20, 10)
    drawn = objective.ahead(3, 0)
    slope = objective.slope(images, soft if labels == "learned" else state.labels, state.lr, drawn)

    module = objective._inputs.student.module
    outputs = outputs_of(module)
    parameters = {name: x.requires_grad_() for name, x in named(module, objective._network.fresh(3, images)).items()}
    images, soft = images.detach().requires_grad_(), soft.requires_grad_()
    targets = soft.softmax(dim=1) if labels == "learned" else F.one_hot(state.labels, 10).double()
    total = torch.zeros(())
    for c in range(10):
        index = drawn.batches.real[c]
        assert (objective._classes.real[index].shape, {*run_labels(objective)[index].tolist()}) == ((9, 1, 8, 8), {c})
        own = drawn.batches.plan.indices[c]
        assert own.tolist() in ([2 * c], [2 * c + 1])
        operation, uniform = drawn.batches.plan.augmentations[c]
        x, real = images[own], objective._classes.real[index]
        if operation:  # the same numbers for all
            x = augment.apply(augment.Draw(operation, uniform[:1]), x)
            real = torch.cat([augment.apply(augment.Draw(operation, uniform[:1]), one[None]) for one in real])
        real_loss = F.cross_entropy(outputs(parameters, real), torch.full((9,), c))
        a = torch.autograd.grad(real_loss, list(parameters.values()))
        own_loss = -(targets[own] * outputs(parameters, x).log_softmax(dim=1)).sum(dim=1).mean()
        b = torch.autograd.grad(own_loss, list(parameters.values()), create_graph=True)
        total = total + distance(
            kind, layers, dict(zip(parameters, a, strict=True)), dict(zip(parameters, b, strict=True))
        )
    by_images, *by_labels = torch.autograd.grad(total, [images, *([soft] if labels == "learned" else [])])
    assert torch.allclose(slope.loss, total, rtol=1e-9)
    assert close(slope.images, by_images)
    assert not by_labels or close(slope.logits, by_labels[0])
    assert slope.lr == 0


def run_labels(objective) -> Tensor:
    return objective._inputs.data.labels["train"]


@pytest.mark.usefixtures("_float64")
def test_the_network_is_trained_on_the_set_between_its_image_steps(make_run: Callable[..., Run]) -> None:
    run = make_run(**SMALL, **PRECISE, distill__outer_steps=3, distill__inner_epochs=2, distill__augment="none")
    loop, objective, state, _ = begun(run)
    outputs = outputs_of(objective._inputs.student.module)
    theta = None
    for iteration in range(7):
        before = loop.coding.images(state.coded(), state.scales)
        state, records = loop.iterate(state, loop.spans.ahead(iteration))
        assert records[0].step == iteration % 3 + 1
        if iteration % 3 == 2:
            assert not state.memory  # as the next network is fresh
            continue
        if iteration % 3 == 0:
            theta = objective._network.fresh(iteration // 3, before)
        else:
            for _ in range(2):  # a batch holds the whole set
                leaf = theta.detach().requires_grad_()
                loss = F.cross_entropy(outputs(named(objective._inputs.student.module, leaf), before), state.labels)
                theta = leaf.detach() - 0.05 * torch.autograd.grad(loss, leaf)[0]
        assert close(state.memory["theta"], theta)
    # A network that is remembered from before, as updates were not made since, is not taken for this one.
    late = objective.slope(before, state.labels, state.lr, objective.ahead(10, 0), state.memory)
    assert torch.equal(late.memory["theta"], objective._network.fresh(3, before))


def test_a_distillation_that_is_resumed_goes_on_with_the_same_bits(make_run: Callable[..., Run], tmp_path) -> None:
    changes = {**SMALL, "distill__outer_steps": 4, "distill__network_momentum": 0.9, "distill__network_data": "real"}
    changes |= {"distill__network_images": 50, "distill__network_batch": 16, "distill__network_cutmix": 0.5}
    changes |= {"distill__storage": "uint8", "distill__parameterisation": "multiformation"}
    whole = make_run(tmp_path / "whole", **changes)
    pipeline.distill(whole)
    assert states_of(whole)[0].memory.keys() == {"theta", "velocity", "life"}
    for iterations in (2, 6):
        parts = make_run(tmp_path / "parts", **{**changes, "distill__iterations": iterations})
        pipeline.distill(parts)
    assert contents(parts) == contents(whole)
    assert not list(whole.experts.glob("*.h5"))
    header = artefact.header(whole.synthetic, synthetic.KIND, synthetic.MAKER)
    assert not {"experts", "select", "syn_steps", "max_start_epoch"} & header.settings["distill"].keys()


def test_batch_norms_have_the_statistics_of_real_images(make_run: Callable[..., Run]) -> None:
    run = make_run(**{**SMALL, "network__arch": "convnetbn"})
    pipeline.prepare(run)
    loop, state = distill.begin(run, inputs.read_dataset(run), experts.Experts([]))
    drawn = loop.objective.ahead(0, 0)
    images = loop.coding.images(state.coded(), state.scales)
    both = loop.objective.slope(images, state.labels, state.lr, drawn)
    # An image's gradient then does not depend on the other ones of its batch.
    other = loop.objective.slope(torch.cat([images[:1], images[:1] + 1, images[2:]]), state.labels, state.lr, drawn)
    assert both.loss != other.loss
    assert torch.equal(both.images[2:], other.images[2:])


@pytest.mark.parametrize(("asked", "size"), [(None, 9), (4, 3)])
def test_steps_of_batch_norms_have_the_slices_that_are_asked_for(
    asked: int | None, size: int, make_run: Callable[..., Run]
) -> None:
    run = make_run(**{**SMALL, "network__arch": "convnetbn", "runtime__micro_batch": asked})
    pipeline.prepare(run)
    loop, _ = distill.begin(run, inputs.read_dataset(run), experts.Experts([]))
    theta = loop.objective._network.fresh(0, loop.objective._inputs.images)
    of_real, of_set = loop.objective._at(theta, loop.objective.ahead(0, 0))
    assert (of_real.size, of_set.size) == (size, 2)


def test_a_network_with_batch_norms_is_trained_on_whole_batches_whatever_slices_are_asked_for(
    make_run: Callable[..., Run],
) -> None:
    run = make_run(**{**SMALL, "distill__outer_steps": 2}, network__arch="convnetbn", runtime__micro_batch=4)
    pipeline.distill(run)
    assert synthetic.read(run.synthetic).about["iteration"] == run.settings.distill.iterations > 1


def test_statistics_are_those_of_each_class_though_it_has_few_images(make_run: Callable[..., Run]) -> None:
    _, objective, _, _ = begun(make_run(**SMALL))
    few = objective._classes._members
    few[3] = few[3][few[3] > 0][:4]
    shown = objective.ahead(0, 0).statistics
    assert run_labels(objective)[shown].bincount().tolist() == [9, 9, 9, 4, 9, 9, 9, 9, 9, 9]


def test_each_span_has_a_network_of_its_own(make_run: Callable[..., Run]) -> None:
    _, objective, state, images = begun(make_run(**SMALL, distill__spans=2))
    first, second = (objective.ahead(0, span) for span in range(2))
    alike = second._replace(batches=first.batches)
    losses = [float(objective.slope(images, state.labels, state.lr, drawn).loss) for drawn in (first, first, alike)]
    assert losses[0] == losses[1] != losses[2]


def test_weights_are_as_exact_as_the_precision(make_run: Callable[..., Run]) -> None:
    _, objective, state, images = begun(make_run(**{**SMALL, "distill__ipc": 3}, **PRECISE))
    drawn = objective.ahead(0, 0)
    own = objective._classes.of_set(drawn.batches, images, state.labels)[0].w
    assert [*own.tolist(), *objective._classes.of_real(drawn.batches, 0).w.tolist()] == [1 / 3] * 3 + [1 / 9] * 9


def test_a_network_without_convolutions_is_refused(make_run: Callable[..., Run]) -> None:
    run = make_run(**SMALL, network__arch="mlp", distill__matched_layers="convolutions")
    with pytest.raises(UserError, match=r"the network mlp has none; set distill.matched_layers=weights"):
        pipeline.distill(run)


@pytest.mark.parametrize("method", ["dc", "dsa", "idc"])
def test_image_steps_at_one_network_lessen_the_distance(method: str, make_run: Callable[..., Run]) -> None:
    rate = {"dc": 0.3, "dsa": 0.3, "idc": 0.003}[method]
    small = {"distill__lr_img": rate, "distill__real_per_class": 9, "network__width": 4}
    loop, objective, state, _ = begun(make_run(distill__method=method, **small))
    losses = []
    for _ in range(4):
        state, records = loop.iterate(state, [objective.ahead(0, 0)])
        losses.append(records[0].loss)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.97 * losses[0]


def test_steps_for_all_classes_at_once_are_idcs_steps_in_turn() -> None:
    """At each class's turn the images are those of the recipe's steps; a class has its own gradient."""
    classes, m, r = 10, 0.5, 0.005  # of its code, for ten images per class
    flags = {"distill.method": "idc", "prepare.dataset": "cifar10", "distill.ipc": 10}
    settings = resolve(flags, environ={}, ignore_params=True).settings.distill
    pace, optimiser = Pace(settings.lr_img, settings.momentum_img), OPTIMISERS[settings.optimiser]()
    curvature = 10 * (torch.rand(classes, dtype=torch.float64) + 0.5)
    in_turn = together = torch.randn(classes, dtype=torch.float64)
    velocity, moments = torch.zeros_like(in_turn), optimiser.begin(together)
    for _ in range(4):
        seen = []
        for c in range(classes):  # one momentum for all images, as of one tensor
            seen.append(in_turn[c])
            gradient = torch.zeros_like(in_turn)
            gradient[c] = curvature[c] * in_turn[c]
            velocity = m * velocity + gradient
            in_turn = in_turn - r * velocity
        assert torch.allclose(torch.stack(seen), together, rtol=1e-7)
        together, moments = optimiser.step(together, curvature * together, moments, pace)


def test_the_recipes_of_idc_say_steps_for_all_classes_at_once() -> None:
    for name, classes, rate in (("idc/cifar10/ipc10", 10, 0.005), ("idc/cifar100/ipc20", 100, 0.01)):
        values = recipes.get(name).settings()
        assert values["distill.momentum_img"] == pytest.approx(0.5**classes, abs=1e-12)
        assert values["distill.lr_img"] == pytest.approx(rate * (1 - 0.5**classes) / 0.5, rel=1e-6)


@pytest.mark.parametrize("objective", ["gradient", "distribution", "cafe"])
def test_the_plan_counts_real_images_and_no_steps(objective: str, make_run: Callable[..., Run]) -> None:
    few, many = (
        make_run(distill__objective=objective, distill__stopping="fixed", distill__real_per_class=n) for n in (10, 100)
    )
    plan = forecast.forecast(few, ("prepare", "distill"))
    assert "6 iterations (att, ipc 1; 1 image per class" in plan  # and no steps
    assert cost.distill(few.settings, 10).operations < 0.8 * cost.distill(many.settings, 10).operations
    longer = make_run(distill__objective="gradient", distill__outer_steps=5, distill__inner_epochs=9).settings
    assert (
        cost.distill(longer, 10).operations
        > cost.distill(make_run(distill__objective="gradient").settings, 10).operations
    )


class Overwriting:
    """Step functions whose next call overwrites what the last one returned, as CUDA graphs do."""

    def __init__(self, step_functions: StepFunctions) -> None:
        self._steps, self._kept = step_functions, {}

    def _same(self, name: str, x: Tensor) -> Tensor:
        return self._kept.setdefault(name, torch.empty_like(x)).copy_(x)

    def gradient(self, *arguments: Tensor) -> Tensor:
        return self._same("g", self._steps.gradient(*arguments))

    def derivatives(self, *arguments: Tensor, labels: bool = False) -> Derivatives:
        made = self._steps.derivatives(*arguments, labels=labels)
        return Derivatives(*(self._same(name, x) for name, x in made._asdict().items() if x is not None), None)


def test_what_the_next_step_overwrites_is_copied_before(make_run: Callable[..., Run]) -> None:
    _, objective, state, images = begun(make_run(**SMALL, network__width=4))
    drawn = objective.ahead(3, 0)
    wanted = objective.slope(images, state.labels, state.lr, drawn)
    objective._real_steps = objective.step_functions = Overwriting(objective.step_functions)
    slope = objective.slope(images, state.labels, state.lr, drawn)
    assert close(slope.images, wanted.images, 1e-5)


def test_labels_are_learned_with_other_parameterisations_too(make_run: Callable[..., Run]) -> None:
    learned = {"distill__labels": "learned", "distill__label_init": "classes", "distill__label_storage": "uint8"}
    coded = {"distill__code_bits": 4, "distill__frequencies": 16, "distill__lr_img": 0.01, "distill__iterations": 2}
    run = make_run(distill__method="dsa+fred+codes", distill__real_per_class=9, network__width=4, **learned, **coded)
    pipeline.distill(run)
    first, last = states_of(run)[0], synthetic.read(run.synthetic)
    assert last.labels.shape == (len(last.variants["synthetic"]), 10)
    assert last.labels.std() > 0
    assert float(last.lr) == pytest.approx(run.settings.distill.lr_init)
    assert first.moments["logits"]["velocity"].abs().max() > 0


@pytest.mark.cpu
@pytest.mark.usefixtures("_float64")
def test_the_network_is_trained_on_real_images_with_momentum_that_is_kept(make_run: Callable[..., Run]) -> None:
    trained = {"distill__network_data": "real", "distill__network_images": 9999, "distill__network_batch": 9999}
    slowed = {"distill__network_momentum": 0.9, "distill__network_weight_decay": 0.01, "distill__augment": "none"}
    run = make_run(**SMALL, **PRECISE, **trained, **slowed, distill__outer_steps=4)
    loop, objective, state, images = begun(run)
    module = objective._inputs.student.module
    theta = objective._network.fresh(0, images).clone()
    leaf = torch.nn.Parameter(theta)
    optimiser = torch.optim.SGD([leaf], lr=0.05, momentum=0.9, weight_decay=0.01)
    for iteration in range(3):  # a batch holds all real images
        if iteration:
            optimiser.zero_grad()
            logits = outputs_of(module)(named(module, leaf), objective._classes.real)
            F.cross_entropy(logits, run_labels(objective)).backward()
            optimiser.step()
        state, _ = loop.iterate(state, loop.spans.ahead(iteration))
        assert close(state.memory["theta"], leaf.detach())
