"""DSA: every operation against an independent reference, and the draws."""

import math

import pytest
import torch
from torch.nn import functional as F

from attcli import augment
from attcli.augment import Draw
from attcli.runtime import stream

X = torch.rand(6, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
U = torch.rand(6, augment.UNIFORMS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def apply(operation: str, u: torch.Tensor = U) -> torch.Tensor:
    return augment.apply(Draw(operation, u), X)


def affine_reference(matrices: torch.Tensor) -> torch.Tensor:
    grid = F.affine_grid(matrices, list(X.shape), align_corners=True)
    return F.grid_sample(X, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def test_scale_is_the_published_resampling() -> None:
    factor = 1 / 1.2 + U * (1.2 - 1 / 1.2)
    matrices = torch.zeros(6, 2, 3, dtype=torch.float64)
    matrices[:, 0, 0], matrices[:, 1, 1] = factor[:, 0], factor[:, 1]
    assert torch.allclose(apply("scale"), affine_reference(matrices), atol=1e-12)


def test_rotate_is_the_published_resampling() -> None:
    angle = (U[:, 0] - 0.5) * 2 * 15 / 180 * math.pi
    matrices = torch.zeros(6, 2, 3, dtype=torch.float64)
    matrices[:, 0, 0], matrices[:, 0, 1] = angle.cos(), -angle.sin()
    matrices[:, 1, 0], matrices[:, 1, 1] = angle.sin(), angle.cos()
    assert torch.allclose(apply("rotate"), affine_reference(matrices), atol=1e-12)


def test_crop_shifts_by_at_most_an_eighth_and_fills_with_zero() -> None:
    y = apply("crop")
    padded = F.pad(X, (2, 2, 2, 2))
    for i in range(6):
        down, right = (math.floor(float(U[i, j]) * 5) for j in (0, 1))
        assert torch.equal(y[i], padded[i, :, down : down + 16, right : right + 16])
    extremes = torch.tensor([[0.0, 0.999, 0]] * 6, dtype=torch.float64)
    assert torch.equal(apply("crop", extremes)[:, :, :2], torch.zeros(6, 3, 2, 16))


def test_cutout_hides_a_square_of_half_the_side_cut_off_at_the_border() -> None:
    for centre in range(17):
        u = torch.tensor([[(centre + 0.5) / 17, 0.5, 0]] * 6, dtype=torch.float64)
        hidden = (apply("cutout", u)[0, 0] == 0).any(dim=1).nonzero().flatten().tolist()
        assert hidden == [row for row in range(centre - 4, centre + 4) if 0 <= row < 16]


def test_flip_mirrors_half() -> None:
    u = torch.tensor([[0.1, 0, 0], [0.9, 0, 0]] * 3, dtype=torch.float64)
    y = apply("flip", u)
    assert torch.equal(y[0], X[0].flip(2))
    assert torch.equal(y[1], X[1])


def test_color_by_hand() -> None:
    x = X[0] + (U[0, 0] - 0.5)
    grey = x.mean(dim=0, keepdim=True)
    x = (x - grey) * (2 * U[0, 1]) + grey
    x = (x - x.mean()) * (U[0, 2] + 0.5) + x.mean()
    assert torch.allclose(apply("color")[0], x)


@pytest.mark.parametrize("operation", list(augment.OPERATIONS))
def test_differentiable_and_applied_to_each_image_by_itself(operation: str) -> None:
    small = X[:2, :1, :6, :6].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment.apply(Draw(operation, U[:2]), x), small)
    alone = augment.apply(Draw(operation, U[3:4]), X[3:4])
    assert torch.allclose(apply(operation)[3:4], alone)


def test_draws_depend_on_their_stream_alone_and_use_all_operations() -> None:
    first = augment.draw("color_crop_flip", 60, 4, stream(1, "a"))
    again = augment.draw("color_crop_flip", 60, 4, stream(1, "a"))
    other = augment.draw("color_crop_flip", 60, 4, stream(1, "b"))
    assert all(
        a.operation == b.operation and torch.equal(a.uniform, b.uniform) for a, b in zip(first, again, strict=True)
    )
    assert any(not torch.equal(a.uniform, b.uniform) for a, b in zip(first, other, strict=True))
    assert {drawn.operation for drawn in first} == {"color", "crop", "flip"}


def test_no_augmentation_is_the_identity() -> None:
    (drawn,) = augment.draw("none", 1, 6, stream(0, "a"))
    assert augment.apply(drawn, X) is X


def test_unknown_operation() -> None:
    for strategy in ("color_blur", "color+blur"):
        with pytest.raises(ValueError, match="unknown augmentation 'blur'"):
            augment.parts(strategy)


def test_parts_follow_each_other_with_numbers_of_their_own() -> None:
    drawn = augment.draw("flip+color+crop_scale", 60, 6, stream(1, "a"))
    assert {one.operation for one in drawn} == {"flip+color+crop", "flip+color+scale"}
    for one in list(drawn)[:5]:
        expected = X
        for i, name in enumerate(one.operation.split("+")):
            expected = augment.apply(Draw(name, one.uniform[:, 3 * i : 3 * i + 3]), expected)
        assert torch.equal(augment.apply(one, X), expected)
    assert drawn.uniform.shape == (60, 6, 9)


def test_an_operation_is_left_out() -> None:
    assert augment.without("color_flip", "flip") == "color"
    assert augment.without("flip+color+crop_flip", "flip") == "color+crop"
    assert augment.without("flip", "flip") == augment.without("none", "flip") == "none"
