"""Several processes that share the work of one command: torchrun's, or those that `runtime.workers` starts.

Rank 0 leads: it alone decides, locks and prints. The other ranks do their share of the jobs that it hands out, and keep
it in files of their own. What is shared out are things whose number is a setting (experts, spans, slices of a batch,
networks to be scored), and sums run over those in their order, never over ranks. So results do not depend on the number
of ranks.
"""

import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from attcli.errors import UserError

T = TypeVar("T")

PATIENCE = timedelta(days=30)
"""How long a rank waits for rank 0's next job: while it prepares a dataset, the others have nothing to do."""

ITERATION_PATIENCE = timedelta(hours=2)
"""How long ranks wait for each other in an iteration: a machine without power does not even close its connections."""

STEP_PATIENCE = timedelta(minutes=30)
"""How long the members of a team wait for each other in a step."""

START_SECONDS = 300
"""How long rank 0 waits for the others to be there."""

LOOK_SECONDS = 0.05
"""How often a rank looks whether another one has posted something."""

STOP = "stop"
"""The key in the ranks' common store that says that somebody asked to stop."""

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""The environment variables by which torchrun tells a process who it is."""


class LostError(UserError):
    """Another rank has ended, so that this one can't go on."""


@dataclass(eq=False)
class Ranks:
    """The place of a process among those that share a command's work.

    rank: 0 leads. size: how many there are. local: this process's number on its machine, and `beside` how many
    processes there are on it. lost: set once the ranks can't work together any more, as one of them has failed. spent:
    the CPU seconds that the others took for what is done.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    beside: int = 1
    lost: bool = False
    spent: float = 0.0
    watch: Callable[[], None] = lambda: None
    """Is called while this rank waits for another one; LostError where it would wait in vain."""
    numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)
    """The numbers of the jobs that rank 0 hands out."""
    _store: Any = field(default=None, repr=False)
    _told: bool = False

    @property
    def lead(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.size > 1

    def share(self, items: Sequence[T]) -> list[T]:
        """The items that are this rank's to do: every `size`-th."""
        return list(items[self.rank :: self.size])

    def from_lead(self, value: T) -> T:
        """Rank 0's value, on all ranks. What the others pass is not looked at."""
        if not self.several:
            return value
        values = [value]
        with _noticing():
            distributed.broadcast_object_list(values, src=0)
        return values[0]

    def agreed(self, flag: bool) -> bool:
        """Rank 0's flag, on all ranks: `from_lead` for something that is asked in every iteration."""
        if not self.several:
            return flag
        told = torch.tensor(flag, dtype=torch.uint8)
        with _noticing():
            distributed.broadcast(told, src=0)
        return bool(told)

    def gathered(self, value: T) -> list[T]:
        """The values of all ranks, in their order."""
        if not self.several:
            return [value]
        values: list[Any] = [None] * self.size
        with _noticing():
            distributed.all_gather_object(values, value)
        return values

    def stacked(self, x: Tensor) -> Tensor:
        """The tensors of all ranks, which have one shape, as (size, *shape).

        They go through host memory: a lost process is noticed there, which a GPU's own collectives may not do.
        """
        return torch.stack(_gathered(x.cpu(), self.size, None)).to(x.device) if self.several else x.unsqueeze(0)

    def team(self, count: int) -> "Team":
        """The team of this rank, where the ranks make so many: rank r is in team r mod count.

        All ranks have to call it together.
        """
        groups = [list(range(number, self.size, count)) for number in range(count)]
        if all(len(group) == 1 for group in groups):
            return Team(self.rank % count, 0, 1)
        with _noticing():
            made = [distributed.new_group(group, timeout=STEP_PATIENCE) for group in groups]
        number = self.rank % count
        return Team(number, groups[number].index(self.rank), len(groups[number]), made[number])

    def post(self, key: str, value: Any) -> None:
        """Tell all ranks something that JSON can say, under a key that is used once."""
        with _noticing():
            self._store.set(key, json.dumps(value))

    def awaited(self, *keys: str, seconds: float = math.inf) -> Any:
        """What was posted under one of the keys, once it is; None where nothing is posted in so many seconds.

        Signals are heard meanwhile, as they are not in collectives.
        """
        until = time.monotonic() + seconds
        with _noticing():
            while True:
                for key in keys:
                    if self._store.check([key]):
                        return json.loads(self._store.get(key))
                if time.monotonic() > until:
                    return None
                self.watch()
                time.sleep(LOOK_SECONDS)

    def ask_to_stop(self) -> None:
        """Let all ranks end what they are at as soon as it can be resumed."""
        if self.several and not self._told:
            self._told = True
            with suppress(RuntimeError):
                self._store.set(STOP, "1")

    def stop_asked(self) -> bool:
        """Whether a rank asked all to stop."""
        if not self.several:
            return False
        with _noticing():
            return bool(self._store.check([STOP]))


@dataclass(frozen=True)
class Team:
    """Ranks that share the slices of a batch: the team's number, this rank's place in it, and the team's size."""

    number: int = 0
    rank: int = 0
    size: int = 1
    _group: Any = field(default=None, repr=False)

    def gathered(self, x: Tensor) -> list[Tensor]:
        """The tensors of all members, which have one shape, in their order.

        They go through host memory: the members may share a GPU, and one that is lost is noticed at once.
        """
        return [part.to(x.device) for part in _gathered(x.cpu(), self.size, self._group)]


def _gathered(x: Tensor, size: int, group: Any) -> list[Tensor]:
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(size)]
    with _noticing():
        distributed.all_gather(parts, x.contiguous(), group=group)
    return parts


@contextmanager
def _noticing() -> Iterator[None]:
    """LostError where another rank is gone."""
    try:
        yield
    except RuntimeError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LostError(
            f"another process of this run has ended ({reason}); run it again: it goes on from the last save"
        ) from None


ALONE = Ranks()

_joined = [ALONE]


def current() -> Ranks:
    """The ranks that this process has joined."""
    return _joined[-1]


def of(variables: Mapping[str, str]) -> Ranks:
    """Who this process is by its environment, without joining the others. UserError for values that cannot be."""
    if not all(variables.get(name) for name in VARIABLES):
        return ALONE
    try:
        rank, size = int(variables["RANK"]), int(variables["WORLD_SIZE"])
        local, beside = int(variables.get("LOCAL_RANK", rank)), int(variables.get("LOCAL_WORLD_SIZE", size))
    except ValueError:
        rank, size, local, beside = 0, 0, 0, 0
    if not 0 <= rank < size:
        told = ", ".join(f"{name}={variables[name]}" for name in VARIABLES[:2])
        raise UserError(f"{told} name no process of several; start them with torchrun, or unset these variables")
    return Ranks(rank, size, local, beside) if size > 1 else ALONE


@contextmanager
def joined(me: Ranks, watch: Callable[[], None] = lambda: None) -> Iterator[Ranks]:
    """Join the other ranks, and leave them again. LostError where they are not there."""
    if not me.several:
        yield me
        return
    try:
        store = _store_of(me)
        # torchrun may keep a store when it starts the processes again; what was said before then must not be heard.
        store = PrefixStore(f"attcli-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        store.set_timeout(timedelta(seconds=START_SECONDS))
        _meet(me, store, watch)
        distributed.init_process_group(
            "gloo", store=store, rank=me.rank, world_size=me.size, timeout=ITERATION_PATIENCE
        )
        store.set_timeout(PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LostError(f"the {me.size} processes of this run did not find each other ({reason})") from None
    ranks = Ranks(me.rank, me.size, me.local, me.beside, _store=store)
    ranks.watch = watch
    _joined.append(ranks)
    try:
        yield ranks
    finally:
        _joined.pop()
        with suppress(RuntimeError):
            distributed.destroy_process_group()


def _store_of(me: Ranks) -> Any:
    """The ranks' common store, which is torchrun's, or else rank 0's. It does not wait for the others to be there."""
    patience = timedelta(seconds=START_SECONDS)
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True):
        return next(rendezvous("env://", timeout=patience))[0]
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, me.size, me.lead, timeout=patience, wait_for_workers=False, multi_tenant=True)


def _meet(me: Ranks, store: Any, watch: Callable[[], None]) -> None:
    """Rank 0 waits until all are there; it hears signals meanwhile. LostError where one has ended or does not come."""
    store.set(f"here-{me.rank}", "1")
    until = time.monotonic() + START_SECONDS
    while me.lead and (missing := [rank for rank in range(me.size) if not store.check([f"here-{rank}"])]):
        watch()
        if time.monotonic() > until:
            raise LostError(
                f"process {missing[0]} of {me.size} has not joined in {START_SECONDS} s; see why it does not start"
            )
        time.sleep(LOOK_SECONDS)


def device(name: str) -> str:
    """The device that a setting's name means for this process: each process of a machine has a GPU of its own.

    A process that sees a single GPU takes it, as batch systems hide the others' from it. UserError where they are too
    few.
    """
    me, count = current(), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not me.several or name not in ("auto", "cuda") or not count:
        return name
    if count == 1:
        return "cuda:0"
    if me.beside > count:
        raise UserError(
            f"{me.beside} processes on this machine share {count} GPUs; start at most {count} "
            f"(torchrun --nproc-per-node {count}, or runtime.workers={count}), or say --device cpu"
        )
    return f"cuda:{me.local}"
