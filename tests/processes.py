"""Processes of their own that begin with everything loaded, as loading takes longer than most of what they do."""

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        *("torch", "torch._dynamo", "torch.utils.flop_counter", "torchvision.utils", "sklearn.datasets", "PIL.Image"),
        *("safetensors.numpy", "attcli.cli.commands", "attcli.stages.pipeline", "attcli.stages.importing"),
        *("attcli.stages.exporting", "attcli.interchange.safetensors", "attcli.interchange.tensors"),
        *("tests.conftest", "tests.faults.campaign.process"),
    ]
)
