"""The exact gradient of a loss at the end of a student's training by Adam, in constant memory of graphs.

One step of Adam (ICLR 2015), the student's t-th, with g = g(theta, x, p), c1 = 1 - b1^t and c2 = 1 - b2^t:

m' = b1 m + (1 - b1) g          r = sqrt(v' / c2)
v' = b2 v + (1 - b2) g^2        theta' = theta - lr (m' / c1) / (r + eps)

Backward, from the derivatives (lam, mu, nu) of the loss in (theta', m', v'):

dL/dlr += -<lam, (m' / c1) / (r + eps)>
mu' = mu - lr lam / (c1 (r + eps))
nu' = nu + lr lam (m' / c1) / (2 c2 r (r + eps)^2)              0 where r is 0
gamma = (1 - b1) mu' + 2 (1 - b2) nu' g                         the derivative in g
lam += d<g, gamma>/dtheta        mu = b1 mu'        nu = b2 nu'
dL/dx += d<g, gamma>/dx          (dL/dp likewise)

So the same step function h serves, with gamma in the place of lam, and one step's graph is alive at a time. What grows
with N is 4 N P numbers: the parameters before each step, its gradient, and the moments after it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from attcli.matching.adjoint import States, rate_of
from attcli.matching.engine import Batches
from attcli.matching.step_functions import StepFunctions

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
"""Adam's own numbers, as in its paper."""


class Student(NamedTuple):
    """A student in training: parameters (P,), Adam's moments of their gradients (P,), and the steps it has made."""

    theta: Tensor
    first: Tensor
    second: Tensor
    steps: int


def begun(theta: Tensor) -> Student:
    """A student with parameters theta (P,) that has made no step."""
    return Student(theta, torch.zeros_like(theta), torch.zeros_like(theta), 0)


def stepped(student: Student, gradient: Tensor, lr: Tensor) -> Student:
    """The student after one more step along its loss's gradient (P,), at the learning rate lr (scalar)."""
    first = BETA1 * student.first + (1 - BETA1) * gradient
    second = BETA2 * student.second + (1 - BETA2) * gradient.square()
    after = Student(student.theta, first, second, student.steps + 1)
    mean, root = _corrected(after)
    return after._replace(theta=torch.addcmul(student.theta, mean / (root + EPS), lr, value=-1))


def _corrected(student: Student) -> tuple[Tensor, Tensor]:
    """The moments as a step uses them: m / c1, and r = sqrt(v / c2), each (P,)."""
    c1, c2 = 1 - BETA1**student.steps, 1 - BETA2**student.steps
    return student.first / c1, (student.second / c2).sqrt()


class Training:
    """What the way back needs of N steps: parameters before each, its gradient, and the moments after it."""

    def __init__(self, student: Student, n_steps: int) -> None:
        self._before = student.steps
        self.thetas = States(student.theta, n_steps)
        self._first, self._second = States(student.first, n_steps), States(student.second, n_steps)
        self._gradients = States(torch.zeros_like(student.theta), n_steps)

    def keep(self, step: int, gradient: Tensor, after: Student) -> None:
        """Take note of a step's gradient (P,) and the student after it."""
        self._gradients[step], self.thetas[step + 1] = gradient, after.theta
        self._first[step + 1], self._second[step + 1] = after.first, after.second

    def after(self, step: int) -> Student:
        """The student after a step, from 0."""
        return Student(self.thetas[step + 1], self._first[step + 1], self._second[step + 1], self._before + step + 1)

    def gradient(self, step: int) -> Tensor:
        """The gradient (P,) that a step, from 0, went along."""
        return self._gradients[step]


def trained(
    step_functions: StepFunctions, student: Student, batches: Batches, lr: Tensor, training: Training | None = None
) -> Student:
    """The student after a step on each of the batches; `training`, if there is one, keeps what the way back needs.

    lr is a scalar, or has a rate for each step (N,).
    """
    for step in range(len(batches)):
        gradient = step_functions.gradient(student.theta, *batches[step])
        student = stepped(student, gradient, rate_of(lr, step))
        if training is not None:
            training.keep(step, gradient, student)
    return student


def swept(step_functions: StepFunctions, training: Training, batches: Batches, lam: Tensor, lr: Tensor) -> Tensor:
    """The way back through all steps from lam (P,), the loss's derivative in the last parameters.

    What it leaves in the batches goes to the set. Returns dL/dlr, of the shape of lr.
    """
    lr_gradient = torch.zeros_like(lr)
    mu, nu = torch.zeros_like(lam), torch.zeros_like(lam)
    for step in reversed(range(len(batches))):
        after = training.after(step)
        mean, root = _corrected(after)
        c1, c2 = 1 - BETA1**after.steps, 1 - BETA2**after.steps
        below = root + EPS
        rate = rate_of(lr, step)
        rate_of(lr_gradient, step).sub_(torch.dot(lam, mean / below))
        mu = mu - rate * lam / (c1 * below)
        nu = nu + torch.where(root > 0, rate * lam * mean / (2 * c2 * root * below.square()), 0)
        gamma = (1 - BETA1) * mu + 2 * (1 - BETA2) * nu * training.gradient(step)
        derivatives = step_functions.derivatives(
            training.thetas[step], *batches[step], gamma, labels=batches.learned_labels
        )
        batches.pull_back(step, derivatives.x.clone(), derivatives.p)  # which the next call may overwrite
        lam = lam + derivatives.theta
        mu, nu = BETA1 * mu, BETA2 * nu
    return lr_gradient
