"""`python -m benchmarks.zca [SIDES] --json FILE`: ZCA fitted on colour images of a side, 64 being the largest allowed.

For each side: seconds, the peak memory of the process, and how exact the whitening matrix T is, without a second
eigendecomposition: T (covariance + eps) T v has to be v. The covariance is applied to random vectors v by passes over
the images in float64, T by whitening in float32 as networks' inputs are. The error is the largest of any number,
relative to the largest of v.
"""

import json
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.nn import functional as F

from attcli.data import normalise
from attcli.runtime import stream
from benchmarks.timing import machine

EPS, VECTORS = 0.1, 4


def chunks(side: int, count: int) -> Iterator[Tensor]:
    """Images f32 (n, 3, side, side) in [0, 1], smooth and noisy, as stored bytes would give them; always the same."""
    size = normalise.chunk_size(3 * side**2)
    for first in range(0, count, size):
        generator = stream(0, "zca", first)
        number = min(size, count - first)
        coarse = torch.rand(number, 3, 8, 8, generator=generator)
        smooth = F.interpolate(coarse, size=(side, side), mode="bilinear")
        noisy = smooth + 0.1 * torch.rand(number, 3, side, side, generator=generator)
        yield (noisy * 230).to(torch.uint8).float() / 255


def error(normaliser: normalise.Normaliser, side: int, count: int) -> float:
    """The largest error of T (covariance + eps) T v."""
    shape = (VECTORS, 3, side, side)
    vectors = torch.randn(shape, generator=stream(0, "zca-vectors"), dtype=torch.float64)
    centre = torch.from_numpy(normaliser.mean).double()

    def whitened(x: Tensor) -> Tensor:
        moved = (x.flatten(1) + centre).view(shape).float()  # forward subtracts the mean
        return normaliser.forward(moved).double().flatten(1)

    once = whitened(vectors)
    applied = EPS * once
    for chunk in chunks(side, count):
        centred = chunk.flatten(1).double() - centre
        applied += (once @ centred.T) @ centred / (count - 1)
    return float((whitened(applied) - vectors.flatten(1)).abs().max() / vectors.abs().max())


def row(side: int) -> dict[str, Any]:
    """One side's figures."""
    count = 3 * side**2 + 512
    begun = time.perf_counter()
    normaliser = normalise.fit_chunks("zca", lambda: chunks(side, count), EPS)
    wall, cpu = time.perf_counter() - begun, time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "name": f"zca/{side}",
        "values": 3 * side**2,
        "images": count,
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1),
        "peak_bytes": peak,
        "relative_error": error(normaliser, side, count),
        "peak_bytes_with_whitening": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main(
    sides: Annotated[list[int] | None, typer.Argument(help="Sides in rising order; default: 32 and 64.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here, after every row.")] = None,
) -> None:
    """Measure, and write the record."""
    report: dict[str, Any] = {"machine": {**machine("cpu"), "load": round(os.getloadavg()[0], 2)}, "results": []}
    for side in sides or [32, 64]:
        report["results"].append(row(side))
        typer.echo(json.dumps(report["results"][-1], indent=2))
        if json_file:
            json_file.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
