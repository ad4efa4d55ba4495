"""What is set up for the process."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
import torch
from pydantic import BaseModel, field_serializer
from pydantic_core import PydanticSerializationError

from attcli import runtime
from attcli.errors import SignalledError, UserError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """What is asked of a libc that stands in for this machine's, in an environment without MALLOC_* variables."""
    found: dict[int, int] = {}
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=found.__setitem__))
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    return found


def test_freed_memory_is_kept(asked: dict[int, int]) -> None:
    runtime.keep_freed_memory()
    assert asked == {-3: 2**30, -1: 2**30}


def test_the_users_own_choice_for_the_allocator_stands(asked: dict[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    runtime.keep_freed_memory()
    assert asked == {}


def test_a_libc_without_that_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    runtime.keep_freed_memory()


@pytest.mark.parametrize(("value", "expected"), [("1", 1), ("1,2", 1), (" 2 ,1", 2), ("", 8), ("many", 8), ("0", 8)])
def test_the_cores_that_openmp_may_use(value: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert runtime.cores() == expected


CONFIGURED = """
import sys
import time
from attcli import runtime
from attcli.errors import SignalledError
from attcli.stages import pipeline
import torch
runtime.configure(1, True)
assert torch.are_deterministic_algorithms_enabled()
slow = {"torch._inductor", "torch._dynamo", "triton"} & set(sys.modules)
assert not slow, slow
from attcli.matching.compiled import _compile
_compile(torch.neg)
assert torch._inductor.config.deterministic
"""


def test_the_compiler_is_loaded_only_where_it_compiles_and_is_reproducible_then() -> None:
    subprocess.run([sys.executable, "-c", CONFIGURED], check=True)


def test_seeding_leaves_the_generators_of_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(seed: int) -> None:
        raise AssertionError("a GPU's generator was seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", fail)
    monkeypatch.setattr(torch.cuda, "manual_seed", fail)
    before = torch.get_rng_state()
    assert (
        runtime.seeded(lambda: torch.rand(2), 0, "x").tolist() == runtime.seeded(lambda: torch.rand(2), 0, "x").tolist()
    )
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch only warns where it sees no GPU")
def test_cuda_without_a_gpu_is_not_warned_of() -> None:
    configured = "from attcli import runtime; runtime.configure(1, False)"
    variables = {**os.environ, "CUDA_HOME": "/somewhere"}

    def said(before: str) -> str:
        words = [sys.executable, "-c", f"import logging; {before}; import torch.utils.cpp_extension"]
        return subprocess.run(words, env=variables, check=True, capture_output=True, text=True).stderr

    assert "No CUDA runtime is found" in said("import torch")
    assert "No CUDA runtime" not in said(configured)


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGTERM, SignalledError), (signal.SIGINT, KeyboardInterrupt)])
def test_an_interruption_that_python_drops_comes_again(number: signal.Signals, raised: type[BaseException]) -> None:
    class Thing:
        def __del__(self) -> None:
            signal.raise_signal(number)
            sum(range(100))  # where the handler's exception comes up, which a finaliser does not let out

    def interrupted() -> None:
        thing = Thing()
        del thing
        time.sleep(5)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(raised), runtime.stoppable():
            interrupted()
    finally:
        signal.signal(signal.SIGINT, before)


def told_why(number: signal.Signals) -> None:
    with suppress(KeyboardInterrupt):
        signal.raise_signal(number)
    raise UserError("the reason")


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGTERM, SignalledError), (signal.SIGINT, KeyboardInterrupt)])
def test_an_interruption_of_which_a_package_makes_an_error_is_one(
    number: signal.Signals, raised: type[BaseException]
) -> None:
    class Content(BaseModel):
        value: int = 1

        @field_serializer("value")
        def interrupted(self, value: int) -> int:
            signal.raise_signal(number)
            return value

    def handler(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(raised) as caught, runtime.stoppable():
            Content().model_dump()
        assert isinstance(caught.value.__cause__, PydanticSerializationError)
        assert signal.getsignal(signal.SIGINT) is handler
        with pytest.raises(ValueError, match="of ours"), runtime.stoppable():
            raise ValueError("of ours")
        with pytest.raises(UserError, match="the reason"), runtime.stoppable():
            told_why(number)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_that_comes_while_one_is_sent_again_is_not_dropped_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stormy(threading.Timer):
        def start(self) -> None:
            signal.raise_signal(signal.SIGUSR1)
            super().start()

    class Thing:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)
            sum(range(100))

    def interrupted() -> None:
        thing = Thing()
        del thing
        time.sleep(5)

    monkeypatch.setattr(runtime, "Timer", Stormy)
    with pytest.raises(SignalledError), runtime.stoppable():
        interrupted()
    assert "ignored" not in capsys.readouterr().err
