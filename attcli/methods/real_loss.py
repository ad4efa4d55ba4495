"""The loss on real images of students that were trained on the set: the objective `real-loss` with fitting steps.

Adam moves what is learned, as the gradients of this loss have no scale that settings of trajectory matching fit. It
needs no experts. Started from a finished set (`attcli distill --from`), it is a second phase after trajectory matching.
"""

from dataclasses import replace

from attcli.methods import mtt

BY_ADAM = {
    "distill.optimiser": "adam",
    "distill.momentum_img": 0.9,
    "distill.lr_img": 0.01,
    "distill.momentum_labels": 0.9,
    "distill.lr_labels": 0.01,
}

METHOD = replace(mtt.METHOD, objective="real-loss", also=BY_ADAM)
