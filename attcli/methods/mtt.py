"""MTT (Cazenavette et al., CVPR 2022): the student's last step is matched with a point of an SGD expert."""

from attcli.methods import Method

METHOD = Method(
    trainer="sgd",
    select="last",
    window="fixed",
    labels="hard",
    init="real",
    max_loss=None,
    engine="adjoint",
)
