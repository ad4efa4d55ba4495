"""DD (Wang et al., 2018): backpropagation through all steps of a student, whose learning rates are learned one by one.

The set is cut into batches that the student goes through in a fixed order, several times. It starts at a new network
each time, or always at the same one (`distill.student_start=fixed`).
"""

from dataclasses import replace

from attcli.methods import mtt

METHOD = replace(
    mtt.METHOD,
    objective="real-loss",
    init="noise",
    also={
        "distill.student_batches": "cyclic",
        "distill.student_rates": "each",
        "distill.syn_steps": 30,
        "distill.augment": "none",
        "distill.real_batch": 1024,
        "distill.optimiser": "adam",
        "distill.momentum_img": 0.5,
        "distill.momentum_lr": 0.5,
        "distill.lr_img": 0.01,
        "distill.lr_lr": 0.01,
        "distill.momentum_labels": 0.5,
        "distill.lr_labels": 0.01,
    },
)
