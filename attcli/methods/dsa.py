"""DSA (Zhao & Bilen, ICML 2021): gradient matching, real and synthetic images augmented alike; no experts."""

from dataclasses import replace

from attcli.methods import mtt

METHOD = replace(mtt.METHOD, objective="gradient", also={"distill.lr_img": 0.1, "distill.lr_init": 0.01})
