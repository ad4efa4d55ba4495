"""What a distillation leaves behind: snapshots it resumes from, the set, its history and its picture."""

import json
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from loguru import logger
from torch import Tensor

from attcli.atomic import atomic
from attcli.data.normalise import Normaliser
from attcli.errors import DamagedError
from attcli.stages.run import Run, may_write
from attcli.store import artefact, dataset, history, normaliser, states, synthetic
from attcli.store.files import move_aside, set_aside
from attcli.store.publishing import publish

HISTORY_SECONDS = 60.0
HISTORY_GROWTH = 1.1
"""While distilling, the history is published when it has grown by this factor: all writing together then is at most
eleven times the last one, however long the run is. The records since are in the work folder."""
PIXELS, RUNAWAY = (-1.0, 2.0), 0.5
"""Pixels of pictures are in [0, 1]. Those of good sets go a little beyond. If more than this share leaves the wider
range, the images have run away (a good set of frequencies had 6 % outside of it, sets of pixels none)."""
GRID_COLUMNS = 10
GRID_PIXELS = 48
"""Small images are enlarged to at least this many pixels a side in the picture."""


def _read(file: Path, of_dataset: Normaliser) -> states.State | None:
    """A saved state; a damaged one is set aside, and distilling resumes from the one before it."""
    try:
        return states.read(file, of_dataset)
    except DamagedError as error:
        set_aside(file, error)
        return None


def scores_are_of(run: Run) -> set[str]:
    """The fingerprints of the sets that the scores among the results are of.

    Files of older versions do not say it; without the set, they count as those of another one ("").
    """
    named = set()
    for name in ("scores-about.json", "snapshot-scores.json"):
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            of = json.loads(run.scores.with_name(name).read_bytes())["set"]
            if "fingerprint" in of or not run.synthetic.exists():
                named.add(str(of.get("fingerprint", "")))
    return named


def drop_scores(run: Run) -> None:
    """Remove the scores, diagnosis and report of another set, which would stand beside this one as its own."""
    for name in ("scores.json", "scores-about.json", "snapshot-scores.json"):
        run.scores.with_name(name).unlink(missing_ok=True)
    for name in ("diagnosis", "report"):
        shutil.rmtree(run.scores.with_name(name), ignore_errors=True)


def draw_grid(path: Path, images: Tensor, classes: int) -> None:
    """A picture of images (n, C, H, W) in [0, 1], class by class: a row per class, at most ten of each."""
    from torchvision.utils import save_image

    each = images.view(classes, -1, *images.shape[1:])[:, :GRID_COLUMNS]
    enlarge = max(1, -(-GRID_PIXELS // images.shape[-1]))
    shown = each.flatten(0, 1).clamp(0, 1)
    shown = shown.repeat_interleave(enlarge, 2).repeat_interleave(enlarge, 3)
    columns = each.shape[1] if each.shape[1] > 1 else GRID_COLUMNS
    with atomic(path) as temporary, torch.no_grad():
        save_image(shown, temporary, nrow=columns, format="png")


class Outcome:
    """Saves a distillation's states to its work folder and publishes them among the results."""

    def __init__(self, run: Run, data: dataset.Dataset, header: artefact.Header, folder: Path) -> None:
        self._run, self._data, self._header, self._folder = run, data, header, folder
        self._snapshots = folder / "snapshots"
        self._parts = folder / "history"
        self._latest = folder / "latest.h5"
        self._history_written, self._history_length = 0.0, 0
        self._published = -1
        self._coding = states.coding_of(run.synthetic, header.about, data.normaliser)
        self.records: list[history.Record] = []
        """The records since the last save."""
        self.machine: dict[str, Any] = {}
        """What the run is executed on; kept in the history."""

    def adopt(self) -> None:
        """Take what is among the results only into the work folder; drop the snapshots and scores of other sets.

        UserError where there are others' and they may not go.
        """
        fingerprint, settings = self._header.fingerprint, self._header.settings
        of_another = self._run.synthetic.exists() and not may_write(
            self._run, self._run.synthetic, synthetic.KIND, synthetic.MAKER, fingerprint, settings
        )
        if of_another or scores_are_of(self._run) - {fingerprint}:  # DVC and users delete the set alone
            drop_scores(self._run)
        for file in states.snapshots(self._run.snapshots):
            if not may_write(self._run, file, states.KIND, synthetic.MAKER, fingerprint, settings):
                file.unlink()
            elif not (self._snapshots / file.name).exists():
                publish(file, self._snapshots / file.name)
        if self._run.history.exists():
            try:
                header, arrays = artefact.read(self._run.history, history.KIND, history.MAKER)
            except DamagedError as error:
                set_aside(self._run.history, error)
            else:
                if header.fingerprint == fingerprint:
                    self.machine = header.about.get("machine", {})
                    history.adopt(self._parts, arrays)
        self._keep_table()

    def _keep_table(self) -> None:
        """Move a CSV whose history is lost into the work folder, before a shorter one takes its place.

        It can't be read back: it holds neither the distances nor whose iterations they are.
        """
        table = self._run.history.with_suffix(".csv")
        if self._run.history.exists() or not table.exists():
            return
        rows = history.rows_of(table)
        if rows > len(history.collect(self._parts, rows).get("iteration", ())):
            kept = move_aside(table, self._folder / table.name)
            message = "{} tells of {} iterations whose history is lost and can't be restored from it; it is kept as {}"
            logger.warning(message, table, rows, kept)

    def resume(self, iterations: int) -> states.State | None:
        """The latest saved state that is not beyond `iterations`, nor beyond a snapshot that is asked for and missing.

        The results then hold the snapshots up to there that these settings ask for, and no others: what is among the
        results depends on the settings alone. Those that leave stay in the work folder.
        """
        every = self._run.settings.distill.save_every
        saved = {states.iteration_of(file): file for file in states.snapshots(self._snapshots)}
        latest = _read(self._latest, self._data.normaliser) if self._latest.exists() else None
        state, gap, usable = self._resumable(saved, iterations)
        if latest is not None and latest.iteration not in saved and latest.iteration <= min(gap, iterations):
            if latest.iteration % every == 0 or latest.iteration == iterations:  # this snapshot could not be written
                saved[latest.iteration] = self._write_snapshot(latest)
                state, gap, usable = self._resumable(saved, iterations)
            elif state is None or latest.iteration > state.iteration:
                state = latest
        reached, last = 0 if state is None else state.iteration, max((i for i in saved if i <= iterations), default=0)
        if reached < last:
            logger.warning(
                "no snapshot was kept of iteration {}, which distill.save_every {} asks for: iterations {} to {} are "
                "made again; stop (Ctrl-C) and ask for the old distill.save_every, or for {}, to go on after them",
                gap,
                every,
                reached + 1,
                last,
                last,
            )
        asked = [saved[i] for i in usable if i % every == 0 or i == iterations]
        self._withdraw_all_but({file.name for file in asked}, iterations)
        for file in asked:
            publish(file, self._run.snapshots / file.name)
        return state

    def _resumable(self, saved: dict[int, Path], iterations: int) -> tuple[states.State | None, int, list[int]]:
        """The last snapshot that can be resumed from, the first one that is missing, and the iterations before that.

        Damaged snapshots are set aside and leave `saved`.
        """
        every = self._run.settings.distill.save_every
        while True:
            gap = states.first_missing(saved, every, iterations)
            usable = [i for i in sorted(saved) if i <= iterations and i < gap]
            if not usable:
                return None, gap, usable
            state = _read(saved[usable[-1]], self._data.normaliser)
            if state is not None:
                return state, gap, usable
            del saved[usable[-1]]

    def _withdraw_all_but(self, staying: set[str], iterations: int) -> None:
        """Take the other snapshots from the results."""
        leaving = [file for file in states.snapshots(self._run.snapshots) if file.name not in staying]
        later = [states.iteration_of(file) for file in leaving if states.iteration_of(file) > iterations]
        if later:
            logger.warning(
                "snapshots after iteration {} leave {} ({}); to have them back, ask for --iterations {}",
                iterations,
                self._run.snapshots,
                ", ".join(map(str, later)),
                max(later),
            )
        for file in leaving:
            file.unlink()

    def _flush(self) -> None:
        if self.records:
            history.write_part(self._parts, self.records)
            self.records = []

    def save(self, state: states.State) -> None:
        """Keep a snapshot and publish it, with the set."""
        self._flush()
        file = self._write_snapshot(state)
        publish(file, self._run.snapshots / file.name)
        self._publish_set(state)
        waited = time.monotonic() - self._history_written > HISTORY_SECONDS
        if waited and state.iteration >= HISTORY_GROWTH * self._history_length:
            self._publish_history(state.iteration)

    def _write_snapshot(self, state: states.State) -> Path:
        file = states.path_of(self._snapshots, state.iteration)
        states.write(file, self._header, state)
        return file

    def save_latest(self, state: states.State) -> None:
        """Keep the state to resume from, without a snapshot of its own, and publish the set."""
        self._flush()
        states.write(self._latest, self._header, state)
        self._publish_set(state)

    def finish(self, state: states.State) -> None:
        """Save what is not saved yet, and publish everything."""
        if self.records:
            self.save_latest(state)
        if state.iteration and self._published != state.iteration:
            self._publish_set(state)
        self._publish_history(state.iteration)
        self._warn_of_runaway(state)

    def _warn_of_runaway(self, state: states.State) -> None:
        """Warn where most pixels have left any range of pictures, as with a learning rate that is far too high."""
        decoded = self._coding.images(state.coded(), state.scales).detach().cpu()
        pixels = self._data.normaliser.inverse(decoded)
        share = float(((pixels < PIXELS[0]) | (pixels > PIXELS[1])).float().mean())
        if share > RUNAWAY:
            message = (
                "{:.0f} % of the pixels are far from those of any picture (black is 0, white 1; they reach {:.3g})"
            )
            logger.warning(message + "; lower distill.lr_img", 100 * share, float(pixels.abs().max()))

    def _publish_set(self, state: states.State) -> None:
        synthetic.write(self._run.synthetic, self._header, state, self._coding, self._data.normaliser)
        normaliser.write(self._run.normaliser, self._data.about, self._header.versions, self._data.normaliser)
        self._draw_grid(state)
        self._published = state.iteration

    def _publish_history(self, iterations: int) -> None:
        arrays = history.collect(self._parts, iterations)
        if not arrays:
            return
        if missing := iterations - len(arrays["iteration"]) // self._run.settings.distill.spans:
            logger.warning("the history of {} of {} iterations is lost; all others are kept", missing, iterations)
        about = {"method": self._header.about["method"], "iterations": iterations, "machine": self.machine}
        header = artefact.Header(
            history.KIND, self._header.fingerprint, self._header.settings, about, self._header.versions
        )
        history.write(self._run.history, header, arrays)
        history.write_csv(self._run.history.with_suffix(".csv"), arrays)
        self._history_written, self._history_length = time.monotonic(), iterations

    def _draw_grid(self, state: states.State) -> None:
        """The moving average's images as a person would see them."""
        scales = self._coding.fit(state.averages)
        averaged = self._coding.images(state.coded(averaged=True), scales)
        images = self._data.normaliser.inverse(averaged.detach().cpu())
        draw_grid(self._run.grid, images, len(self._data.about["classes"]))
