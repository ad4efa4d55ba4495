"""CAFE (Wang et al., CVPR 2022): mean features of several layers, by networks trained on the set; no experts."""

from dataclasses import replace

from attcli.methods import mtt

METHOD = replace(
    mtt.METHOD,
    init="noise",
    objective="cafe",
    also={
        "distill.lr_img": 0.1,
        "distill.lr_init": 0.01,
        "distill.augment": "none",
        "distill.outer_steps": 10,
        "distill.inner_epochs": 10,
    },
)
