"""RaT-BPTT (Feng et al., ICLR 2024): backpropagation through a random window of a student's training by Adam.

A fresh student makes up to 140 steps, and then the 60 of the window, at whose end its loss on real images is taken. Its
batches hold equally many images of each class.
"""

from dataclasses import replace

from attcli.methods import mtt, real_loss

METHOD = replace(
    mtt.METHOD,
    objective="real-loss",
    init="noise",
    also={
        **real_loss.BY_ADAM,
        "distill.lr_img": 0.001,
        "distill.student_optimiser": "adam",
        "distill.student_batches": "balanced",
        "distill.clip": 2.0,
        "distill.steps_before": 140,
        "distill.syn_steps": 60,
        "distill.augment": "flip_rotate",
        "distill.real_augment": "flip_rotate",
        "distill.lr_init": 0.001,
        "distill.lr_lr": 0.0,
    },
)
