"""MTT (Cazenavette et al., CVPR 2022): the student's last step is matched."""

from attcli.matching import select, window
from attcli.methods import Method

METHOD = Method(window=window.fixed, select=select.last)
