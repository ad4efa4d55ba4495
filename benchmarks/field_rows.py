"""The settings of `python -m benchmarks.field`: of its problems, of its rows, and of the networks that score sets."""

from typing import Any

SCORES: dict[str, Any] = {"evaluate.epochs": 300, "evaluate.batch": 256, "evaluate.protocol": "exact"}
SCORED_BY: dict[str, dict[str, Any]] = {
    "convnet": {"evaluate.repeats": 2},
    "vgg11": {"evaluate.repeats": 1, "evaluate.lr": 0.01},
}
"""What each network is trained with besides: VGG11 has a learning rate of its own, as those learned with sets suit the
ConvNets that distilled them."""
DIGITS: dict[str, Any] = {
    "prepare.dataset": "digits",
    "prepare.normalise": "standardise",
    "prepare.validation": 200,
    "network.depth": 2,
    "network.width": 64,
    "buffer.experts": 10,
    "buffer.lr": 0.02,
    "buffer.batch": 64,
    "buffer.augment": "crop_scale_rotate",
    "distill.augment": "crop_scale_rotate",
    "distill.ema_decay": 0.95,
    "distill.save_every": 50,
    "evaluate.augment": "crop_scale_rotate",
    **SCORES,
}
PROBLEMS: dict[str, dict[str, Any]] = {
    "digits-ipc1": {**DIGITS, "distill.ipc": 1},
    "digits-ipc10": {**DIGITS, "distill.ipc": 10, "buffer.lr": 0.05},
    "cifar10-ipc1": {
        "prepare.dataset": "cifar10",
        "prepare.normalise": "zca",
        "prepare.limit_per_class": 500,
        "prepare.validation": 0,
        "network.arch": "convnet",
        "network.depth": 3,
        "network.width": 32,
        "buffer.experts": 6,
        "buffer.lr": 0.02,
        "buffer.batch": 64,
        "buffer.difficulty_networks": 3,
        "distill.ipc": 1,
        "distill.ema_decay": 0.99,
        "distill.save_every": 50,
        "evaluate.augment": "color_crop_cutout_flip_scale_rotate",
        "evaluate.momentum": 0.9,
        "evaluate.weight_decay": 0.0005,
        "evaluate.lr": None,
        "evaluate.random_lrs": [0.01],
        **SCORES,
    },
}
"""What all rows of a problem share; all that a recipe of one method might change otherwise is given here."""

MATCHING: dict[str, dict[str, Any]] = {
    "digits-ipc1": {
        "buffer.epochs": "auto",
        "distill.iterations": 100,
        "distill.syn_steps": 60,
        "distill.expert_epochs": 3,
        "distill.max_start_epoch": 2,
        "distill.lr_img": 30,
        "distill.lr_init": 0.01,
        "distill.lr_lr": 1e-6,
    },
    "digits-ipc10": {
        "buffer.epochs": "auto",
        "distill.iterations": 100,
        "distill.syn_steps": 40,
        "distill.batch_syn": 50,
        "distill.expert_epochs": 3,
        "distill.max_start_epoch": 4,
        "distill.lr_img": 100,
        "distill.lr_init": 0.03,
        "distill.lr_lr": 1e-5,
    },
    "cifar10-ipc1": {
        "buffer.epochs": "auto",
        "distill.iterations": 150,
        "distill.syn_steps": 40,
        "distill.batch_syn": None,
        "distill.expert_epochs": 4,
        "distill.min_start_epoch": 0,
        "distill.max_start_epoch": 2,
        "distill.lr_img": 100,
        "distill.lr_init": 0.02,
        "distill.lr_lr": 1e-6,
    },
}
"""What all methods share that match trajectories: on the digits ATT's values, tuned on validation images; on CIFAR-10
largely those of ATT's recipe, for narrow networks."""

SOFT = {
    "distill.lr_labels": 2.0,
    "distill.window": "expanding",
    "distill.current_max_start_epoch": 1,
    "distill.expansion_end": 30,
}
STUDENTS = {"distill.syn_steps": 40, "distill.real_batch": 500}

ROWS: dict[str, tuple[bool, dict[str, Any]]] = {
    "dd": (False, {"distill.method": "dd", "distill.iterations": 150, "distill.syn_steps": 30}),
    "ld": (False, {"distill.method": "ld", "distill.iterations": 300}),
    "dc": (False, {"distill.method": "dc", "distill.iterations": 200}),
    "dsa": (False, {"distill.method": "dsa", "distill.iterations": 200}),
    "dm": (False, {"distill.method": "dm", "distill.iterations": 600}),
    "cafe": (False, {"distill.method": "cafe", "distill.iterations": 100}),
    "idc": (False, {"distill.method": "idc", "distill.iterations": 200, "distill.outer_steps": 20}),
    "mtt": (True, {"distill.method": "mtt"}),
    "ftd": (True, {"distill.method": "ftd"}),
    "datm": (True, {"distill.method": "datm", **SOFT}),
    "pad": (True, {"distill.method": "pad", **SOFT, "buffer.curriculum_growth": 2}),
    "edf": (True, {"distill.method": "edf", **SOFT, "distill.left_out": 0.25, "distill.emphasis_every": 20}),
    "mct": (True, {"distill.method": "mct"}),
    "fyi": (True, {"distill.method": "fyi"}),
    "att": (True, {"distill.method": "att"}),
    "att+datm": (True, {"distill.method": "att+datm", **SOFT}),
    "att+pad": (True, {"distill.method": "att+pad", **SOFT, "buffer.curriculum_growth": 2}),
    "real-loss": (False, {"distill.method": "real-loss", "distill.iterations": 150, **STUDENTS}),
    "real-loss after att": (False, {"distill.method": "real-loss", "distill.iterations": 100, **STUDENTS}),
}
"""For each row whether its method matches trajectories, and its own settings."""

BEGUN_FROM = {"real-loss after att": "att"}
"""Rows that go on from the set of another."""
