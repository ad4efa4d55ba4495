"""IDC (Kim et al., ICML 2022): gradients of convolutions by networks trained on real images; multi-formation.

Its image steps, one for each class in turn, are one for all here: with momentum m and learning rate r in turn, K
classes move as they do together with momentum m^K and learning rate r (1 - m^K) / (1 - m), which is 2 r for m = 0.5.
"""

from dataclasses import replace

from attcli.methods import mtt

METHOD = replace(
    mtt.METHOD,
    parameterisation="multiformation",
    objective="gradient",
    also={
        "distill.gradient_distance": "squares",
        "distill.matched_layers": "convolutions",
        "distill.real_per_class": 64,
        "distill.set_per_class": 128,
        "distill.outer_steps": 100,
        "distill.network_data": "real",
        "distill.network_momentum": 0.9,
        "distill.network_weight_decay": 5e-4,
        "distill.network_batch": 64,
        "distill.network_cutmix": 0.5,
        "distill.augment": "color+crop+cutout",
        "distill.lr_img": 0.01,
        "distill.momentum_img": 0.0,
        "distill.lr_init": 0.01,
    },
)
