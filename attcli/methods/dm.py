"""DM (Zhao & Bilen, WACV 2023): the mean features of real images, by fresh random networks; no experts."""

from dataclasses import replace

from attcli.methods import mtt

METHOD = replace(mtt.METHOD, objective="distribution", also={"distill.lr_img": 1.0, "distill.lr_init": 0.01})
