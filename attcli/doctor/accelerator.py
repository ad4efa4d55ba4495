"""torch, the device that a run would compute on, and the precisions that this device computes in."""

import shutil
from pathlib import Path

from attcli.doctor.finding import Finding
from attcli.errors import UserError
from attcli.settings import Settings
from attcli.settings.layers import values_of

AMPERE = (8, 0)
"""Compute capability from which GPUs round to TF32 and compute in bfloat16."""

FAST_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")
"""Words for a CPU's bfloat16 units, among the flags in /proc/cpuinfo."""

CPUINFO = Path("/proc/cpuinfo")
DRIVERS = (Path("/dev/nvidia0"), Path("/dev/nvidiactl"))


def torch_build(settings: Settings) -> Finding:
    """The version of torch, and the CUDA that it was built for."""
    try:
        import torch
    except (ImportError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        return Finding("torch", "problem", f"torch cannot be loaded ({reason})", "pip install --force-reinstall torch")
    if torch.version.cuda:
        return Finding("torch", "ok", f"{torch.__version__}, built for CUDA {torch.version.cuda}")
    says = f"{torch.__version__}, built without CUDA"
    if shutil.which("nvidia-smi") or any(path.exists() for path in DRIVERS):
        return Finding(
            "torch",
            "note",
            f"{says}, though this machine has a driver for NVIDIA GPUs, which therefore stay idle",
            "install a torch with CUDA: pip install --force-reinstall torch",
        )
    return Finding("torch", "ok", says)


def device(settings: Settings) -> Finding:
    """The device that runtime.device means, tried by a small computation, and its memory."""
    import torch

    from attcli import runtime

    name = settings.runtime.device
    try:
        meant = runtime.device(name)
    except UserError as error:
        return Finding("device", "problem", str(error), "or set ATTCLI_DEVICE=auto")
    if meant.type == "cpu":
        says = f"{runtime.described(name)}, {runtime.cpu_model()}"
        if name == "auto" and runtime.has_unusable_gpu():
            remedy = "where the GPU's driver is too old, update it or install a torch for an older CUDA"
            return Finding("device", "note", says, remedy)
        return Finding("device", "ok", says)
    try:
        torch.ones(8, device=meant).square().sum().item()
        free, total = torch.cuda.mem_get_info(meant)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        return Finding(
            "device",
            "problem",
            f"{runtime.described(name)} is seen, but cannot compute ({reason})",
            "install a torch that fits this GPU and its driver, or set ATTCLI_DEVICE=cpu",
        )
    count = torch.cuda.device_count()
    others = f"; {count} GPUs in all, of which a command uses one" if count > 1 else ""
    says = f"{runtime.described(name)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free{others}"
    if free < 0.2 * total:
        return Finding("device", "note", says, "another program holds most of its memory (nvidia-smi lists programs)")
    return Finding("device", "ok", says)


def precision(settings: Settings) -> Finding:
    """What the device computes in, and whether the settings ask for something that it lacks."""
    from attcli import runtime

    try:
        meant = runtime.device(settings.runtime.device)
    except UserError:
        return Finding("precision", "note", "not known, as the device is not available")
    lacking, says = _gpu() if meant.type == "cuda" else _cpu()
    asked = {name: value for name, value in values_of(settings).items() if name.endswith(".precision")}
    unfit = [f"{name} is {value}" for name, value in asked.items() if value in lacking]
    if unfit:
        remedy = f"set it to float32: {lacking[asked[unfit[0].split()[0]]]}"
        return Finding("precision", "note", f"{says}; {', '.join(unfit)}", remedy)
    return Finding("precision", "ok", says)


def _gpu() -> tuple[dict[str, str], str]:
    """What a GPU lacks, each with what comes of it, and all in words."""
    import torch

    if torch.cuda.get_device_capability() >= AMPERE:
        return {}, "float64, float32, tf32 and bfloat16"
    lacking = {
        "tf32": "the GPU is too old for it, so nothing is faster",
        "bfloat16": "the GPU is too old, so it is slow",
    }
    return lacking, "float64 and float32; the GPU is too old for tf32 and for fast bfloat16"


def _cpu() -> tuple[dict[str, str], str]:
    """The same for a CPU."""
    no_tf32 = {"tf32": "CPUs have no tf32, so it only says float32 in another way"}
    try:
        words = set(CPUINFO.read_text().split())
    except OSError:
        return no_tf32, "float64, float32 and bfloat16, which may be slow; tf32 needs a GPU"
    if words & set(FAST_BFLOAT16):
        return no_tf32, "float64, float32 and bfloat16; tf32 needs a GPU"
    slow = {"bfloat16": "this CPU has no units for it, so it is probably slower than float32"}
    return no_tf32 | slow, "float64 and float32; bfloat16 is slow on this CPU, tf32 needs a GPU"
