"""Standardisation and ZCA whitening against their definitions."""

import pytest
import torch

from attcli.data import normalise
from attcli.data.inputs import of_each_class
from attcli.data.normalise import fit
from attcli.runtime import stream

IMAGES = torch.rand(300, 3, 4, 4, generator=torch.Generator().manual_seed(0)) ** 2


def test_standardised_images_have_mean_0_and_deviation_1() -> None:
    normal = fit("standardise", IMAGES, 0.1).forward(IMAGES)
    assert torch.allclose(normal.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(normal.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-5)


def test_zca_is_the_symmetric_whitening_of_the_covariance() -> None:
    eps = 0.1
    flat = IMAGES.flatten(1).double()
    covariance = torch.cov(flat.T)
    # (covariance + eps)^-1/2 by the square root of an inverse, not by an eigendecomposition of our own.
    u, s, _ = torch.linalg.svd(covariance)
    wanted = (flat - flat.mean(dim=0)) @ (u @ torch.diag((s + eps).rsqrt()) @ u.T)
    found = fit("zca", IMAGES, eps).forward(IMAGES).flatten(1).double()
    assert torch.allclose(found, wanted, atol=1e-5)
    root = u @ torch.diag((s + eps).rsqrt()) @ u.T
    assert torch.allclose(
        root @ root @ (covariance + eps * torch.eye(48)), torch.eye(48, dtype=torch.float64), atol=1e-8
    )


@pytest.mark.parametrize("kind", ["standardise", "zca"])
def test_inverse(kind: str) -> None:
    normaliser = fit(kind, IMAGES[:200], 0.1)
    others = IMAGES[200:]
    assert torch.allclose(normaliser.inverse(normaliser.forward(others)), others, atol=1e-5)


@pytest.mark.parametrize("kind", ["standardise", "zca"])
def test_chunks_of_any_size_give_the_statistics_of_the_whole(kind: str) -> None:
    """Against torch's own mean, deviation and covariance in float64, to less than float32 resolves."""
    fitted = normalise.fit_chunks(kind, lambda: IMAGES.split(37), 0.1)
    values = IMAGES.double()
    if kind == "standardise":
        assert torch.equal(torch.from_numpy(fitted.mean), values.mean(dim=(0, 2, 3)).float())
        assert fitted.std is not None
        assert torch.equal(torch.from_numpy(fitted.std), values.std(dim=(0, 2, 3)).float())
        return
    assert torch.equal(torch.from_numpy(fitted.mean), values.flatten(1).mean(dim=0).float())
    assert fitted.vectors is not None
    assert fitted.values is not None
    vectors = torch.from_numpy(fitted.vectors).double()
    covariance = (vectors * torch.from_numpy(fitted.values)) @ vectors.T
    assert torch.allclose(covariance, torch.cov(values.flatten(1).T), atol=1e-8)


@pytest.mark.parametrize("scale", [1 / 255, 1 / 16])
def test_bytes_give_the_statistics_of_the_values_that_they_stand_for(scale: float) -> None:
    stored = (IMAGES * 255).to(torch.uint8)
    values = (stored.float() * scale).double()
    fitted = normalise.fit_bytes(stored.split(70), scale)
    assert torch.equal(torch.from_numpy(fitted.mean), values.mean(dim=(0, 2, 3)).float())
    assert fitted.std is not None
    assert torch.equal(torch.from_numpy(fitted.std), values.std(dim=(0, 2, 3)).float())


def test_whitening_never_rounds_to_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = normalise.fit("zca", torch.rand(50, 1, 4, 4), 0.1)
    allowed: list[bool] = []
    product = torch.Tensor.__matmul__

    def seen(self: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        allowed.append(torch.backends.cuda.matmul.allow_tf32)
        return product(self, other)

    monkeypatch.setattr(normalise.Normaliser, "_matrix", lambda *arguments: torch.eye(16))
    monkeypatch.setattr(torch.Tensor, "__matmul__", seen)
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        fitted.inverse(fitted.forward(torch.rand(2, 1, 4, 4)))
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    assert allowed == [False, False]


def test_chunks_of_large_images_are_small() -> None:
    assert normalise.chunk_size(3072) == normalise.chunk_size(64) == 10_000
    assert normalise.chunk_size(12_288) == 2_500


def test_digest_tells_normalisers_apart() -> None:
    digests = {
        fit("zca", IMAGES, 0.1).digest(),
        fit("zca", IMAGES, 0.2).digest(),
        fit("standardise", IMAGES, 0.1).digest(),
    }
    assert len(digests) == 3


def test_images_of_each_class() -> None:
    labels = torch.tensor([0, 1, 1, 2, 2, 2])
    chosen = of_each_class(labels, [1, 2, 2], stream(0, "a"))
    assert labels[chosen].tolist() == [0, 1, 1, 2, 2]
    assert len(set(chosen.tolist())) == 5
    with pytest.raises(ValueError, match="class 0 has 1 images, fewer than 2"):
        of_each_class(labels, [2, 1, 1], stream(0, "a"))


def test_the_digest_covers_mean_and_deviation() -> None:
    first = normalise.given((0.1,), (0.3,)).digest()
    assert normalise.given((0.2,), (0.3,)).digest() != first
    assert normalise.given((0.1,), (0.4,)).digest() != first
