"""LD (Bohdal et al., 2020): real images stay as they are, and their soft labels are learned.

A network is trained along with the labels, and looks one step ahead to see which labels help on real images.
"""

from dataclasses import replace

from attcli.methods import mtt

METHOD = replace(
    mtt.METHOD,
    objective="label-distillation",
    labels="learned",
    also={
        "distill.label_init": "uniform",
        "distill.syn_steps": 1,
        "distill.augment": "none",
        "distill.real_batch": 1024,
        "distill.optimiser": "adam",
        "distill.momentum_labels": 0.9,
        "distill.lr_labels": 0.01,
        "distill.lr_img": 0.0,
        "distill.lr_init": 0.01,
        "distill.lr_lr": 0.0,
    },
)
