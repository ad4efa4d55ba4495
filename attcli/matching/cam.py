"""Where in an image a network looks when it sees a class: Smooth Grad-CAM++ (Omeiza et al., 2019).

A_k are the network's last feature maps, S is the class's output, and means are over noisy copies of the image:

    a_k = mean(g^2) / (2 mean(g^2) + sum_ij mean(g^3) A_k)          g = dS/dA_k, pixel by pixel
    w_k = sum_ij a_k relu(mean(g))
    map = relu(sum_k w_k A_k), from 0 to 1 in each image, enlarged to its size

Where a_k's denominator is 0, a_k is 0. The last feature maps are what the last module puts out that has pixels, more
than one: after the last activation, and pooling, in the networks of this package.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attcli.matching.student import Student

COPIES = 4
"""Noisy copies of an image."""

NOISE = 0.3
"""The deviation of their noise, in network inputs."""


def maps(student: Student, theta: Tensor, images: Tensor, classes: Tensor, noise: Tensor) -> Tensor:
    """The maps (n, H, W), from 0 to 1, of images (n, C, H, W) for their classes (n,).

    noise: standard normal numbers (copies, n, C, H, W). An image's output must not depend on the others. ValueError for
    a network without feature maps.
    """
    activations = _looked_at(student, theta, images, classes)[0]
    sums = [torch.zeros_like(activations) for _ in range(3)]
    for copy in noise:
        g = _looked_at(student, theta, images + NOISE * copy, classes)[1]
        sums = [total + g**power for power, total in enumerate(sums, 1)]
    g1, g2, g3 = (total / len(noise) for total in sums)
    below = 2 * g2 + (g3 * activations).sum(dim=(2, 3), keepdim=True)
    share = torch.where(below == 0, 0, g2 / torch.where(below == 0, 1, below))
    weights = (share * g1.relu()).sum(dim=(2, 3), keepdim=True)
    return _enlarged((weights * activations).sum(dim=1).relu(), images)


def feature_maps(student: Student, theta: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """The last feature maps (n, K, h, w) of images (n, C, H, W), and the outputs (n, classes).

    ValueError for a network without any: also where what comes after them still tells places apart, as in networks that
    attend to patches.
    """
    taken: list[Tensor] = []

    def note(module: nn.Module, inputs: object, output: object) -> None:
        if not isinstance(output, Tensor):
            return
        if output.dim() == 4 and output.shape[2:].numel() > 1:
            square = output.shape[2] == output.shape[3] or images.shape[2] != images.shape[3]
            taken[:] = [output] if square else []  # else its channels come last
        elif output.dim() == 3:
            taken.clear()

    handles = [part.register_forward_hook(note) for part in student.module.modules()]
    try:
        outputs = student.logits(theta, images)
    finally:
        for handle in handles:
            handle.remove()
    if not taken:
        raise ValueError("the network has no feature maps")
    return taken[0], outputs


def _looked_at(student: Student, theta: Tensor, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """The last feature maps (n, K, h, w), and the derivatives of the classes' outputs in them."""
    with torch.enable_grad():
        activations, outputs = feature_maps(student, theta, images.detach().requires_grad_())
        (g,) = torch.autograd.grad(outputs.gather(1, classes.unsqueeze(1)).sum(), activations)
    return activations.detach().to(images), g.to(images)


def _enlarged(coarse: Tensor, images: Tensor) -> Tensor:
    """Maps (n, h, w) from 0 to 1 each, at the images' size; a map of equal values becomes 0."""
    flat = coarse.flatten(1)
    low, high = flat.amin(dim=1).view(-1, 1, 1), flat.amax(dim=1).view(-1, 1, 1)
    even = torch.where(high == low, 1, high - low)
    scaled = ((coarse - low) / even).unsqueeze(1)
    return F.interpolate(scaled, size=images.shape[2:], mode="bilinear", align_corners=False).squeeze(1)


def weights(attention: Tensor, added: float) -> Tensor:
    """EDF's weights (n, H, W) of pixels: A + added where A is at least the mean of its image, else 1."""
    mean = attention.mean(dim=(1, 2), keepdim=True)
    return torch.where(attention >= mean, attention + added, torch.ones_like(attention))
