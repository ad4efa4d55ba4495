"""DC (Zhao et al., ICLR 2021): gradient matching from noise, without augmentation; no experts."""

from dataclasses import replace

from attcli.methods import dsa

METHOD = replace(dsa.METHOD, init="noise", also={**dsa.METHOD.also, "distill.augment": "none"})
