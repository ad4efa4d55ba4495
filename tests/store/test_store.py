"""Artefacts: complete or absent, checked, and cheap to read in part."""

import multiprocessing
import os
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from attcli.errors import UserError
from attcli.store import artefact, experts, history, synthetic
from attcli.store.files import atomic, locked, publish, sweep, write_text
from attcli.store.results import Results

HEADER = artefact.Header("thing", "abc", {"a": 1}, {"b": 2}, {"torch": "x"})
EXPERT = {
    "dataset": "digits",
    "classes": ["0", "1"],
    "channels": 1,
    "resolution": 8,
    "value_scale": 0.0625,
    "normaliser": {"kind": "standardise", "eps": 0.0, "sha256": "0" * 64},
    "network": {"arch": "mlp"},
    "layout": [["weight", [50]]],
    "dataset_sha256": "0" * 64,
}
ARRAYS = {"x": np.arange(6.0).reshape(2, 3), "y/z": np.array([1, 2])}


def test_round_trip(tmp_path: Path) -> None:
    artefact.write(tmp_path / "a.h5", HEADER, ARRAYS)
    header, arrays = artefact.read(tmp_path / "a.h5", "thing", "maker")
    assert (header.fingerprint, header.settings, header.about) == ("abc", {"a": 1}, {"b": 2})
    assert all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)


def test_same_content_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        artefact.write(tmp_path / name, HEADER, dict(reversed(ARRAYS.items())) if name == "b" else ARRAYS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")

    def fail() -> None:
        with atomic(tmp_path / "a") as temporary:
            temporary.write_text("new")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize("keep", [0, 10, 100, 2000, -1])
def test_a_file_cut_short_is_told_as_such(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.h5"
    artefact.write(path, HEADER, {"x": np.arange(5000.0)})
    data = path.read_bytes()
    path.write_bytes(data[:keep])
    with pytest.raises(UserError, match=r"a\.h5 is damaged or cut short .*delete it and run `maker`"):
        artefact.read(path, "thing", "maker")


def test_a_changed_value_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    artefact.write(path, HEADER, ARRAYS)
    with h5py.File(path, "r+") as file:
        file["x"][0, 0] = 7
    with pytest.raises(UserError, match="its seal is missing"):
        artefact.read(path, "thing", "maker")


def test_other_kinds_and_missing_files(tmp_path: Path) -> None:
    artefact.write(tmp_path / "a.h5", HEADER, ARRAYS)
    with pytest.raises(UserError, match="is a file of kind 'thing', not 'dataset'"):
        artefact.read(tmp_path / "a.h5", "dataset", "maker")
    with pytest.raises(UserError, match=r"b\.h5 is missing; run `maker`"):
        artefact.read(tmp_path / "b.h5", "thing", "maker")


def test_fingerprints_depend_on_everything_that_they_hash() -> None:
    base = ("stage", 1, {"a": 1}, {"i": "x"})
    others = [
        ("other", *base[1:]),
        ("stage", 2, *base[2:]),
        ("stage", 1, {"a": 2}, {"i": "x"}),
        (*base[:3], {"i": "y"}),
    ]
    found = {artefact.fingerprint(*case) for case in [base, *others]}
    assert len(found) == 5
    assert artefact.fingerprint(*base) == artefact.fingerprint("stage", 1, {"a": 1}, {"i": "x"})


def trajectory(rows: int, size: int = 50) -> experts.Trajectory:
    random = np.random.default_rng(0)
    return experts.Trajectory(
        [random.random(size, dtype=np.float32) for _ in range(rows)], [1.0] * (rows - 1), [50.0] * (rows - 1)
    )


def test_experts_by_row(tmp_path: Path) -> None:
    header = artefact.Header(experts.KIND, "e", {}, EXPERT)
    for i, rows in enumerate((5, 4)):
        experts.write(experts.path(tmp_path, i), header, trajectory(rows))
    opened = experts.open_experts(tmp_path, 2)
    assert opened.epochs == 3
    assert np.array_equal(opened.rows(0, (1, 3)), np.stack(trajectory(5).parameters)[[1, 3]])
    opened.close()
    with pytest.raises(UserError, match="1 of 3 experts are missing"):
        experts.open_experts(tmp_path, 3)


def test_an_experts_digest_is_that_of_its_first_part(tmp_path: Path) -> None:
    header = artefact.Header(experts.KIND, "e", {}, EXPERT)
    for name, rows in (("a", 4), ("b", 6)):
        experts.write(experts.path(tmp_path / name, 0), header, trajectory(rows))
    short, long = (experts.open_experts(tmp_path / name, 1) for name in "ab")
    assert short.digest(3) == long.digest(3)
    assert long.digest(4) != long.digest(3)
    short.close()
    long.close()


def test_two_rows_are_read_without_reading_the_file(tmp_path: Path) -> None:
    header = artefact.Header(experts.KIND, "e", {}, EXPERT)
    experts.write(experts.path(tmp_path, 0), header, trajectory(40, size=100_000))
    opened = experts.open_experts(tmp_path, 1)

    def bytes_read() -> int:
        lines = Path("/proc/self/io").read_text().splitlines()
        return int(lines[0].split()[1])

    before = bytes_read()
    opened.rows(0, (3, 30))
    assert bytes_read() - before < 3 * 400_000
    opened.close()


def test_a_damaged_row_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    header = artefact.Header(experts.KIND, "e", {}, EXPERT)
    path = experts.path(tmp_path, 0)
    experts.write(path, header, trajectory(3, size=1000))
    row = trajectory(3, size=1000).parameters[1].tobytes()
    data = bytearray(path.read_bytes())
    data[data.index(row) + 100] ^= 1
    path.write_bytes(bytes(data))
    opened = experts.open_experts(tmp_path, 1)
    opened.rows(0, (0, 2))
    with pytest.raises(UserError, match="damaged"):
        opened.rows(0, (0, 1))
    opened.close()


def record(iteration: int) -> history.Record:
    l1 = np.full(3, iteration, np.float32)
    return history.Record(iteration, 0, 0, 2, 0.5, 0.01, 0.1, 1, l1, l1)


def test_history_is_put_together_from_overlapping_parts(tmp_path: Path) -> None:
    for begin, end in ((0, 4), (4, 6), (4, 9), (6, 12)):
        history.write_part(tmp_path, [record(i) for i in range(begin, end)])
    history.write_part(tmp_path, [record(4)])  # shorter than what is there: kept out
    for iterations in (3, 4, 8, 12):
        assert history.collect(tmp_path, iterations)["iteration"].tolist() == list(range(iterations))
    assert history.collect(tmp_path, 12)["l1"].shape == (12, 3)


def test_results_survive_a_line_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    Results(path).add(("a",), {"accuracy": 1.0})
    with path.open("a") as file:
        file.write('{"key": ["b"], "val')
    again = Results(path)
    assert again.get(("a",)) == {"accuracy": 1.0}
    assert again.get(("b",)) is None
    again.add(("b",), {"accuracy": 2.0})
    assert Results(path).get(("b",)) == {"accuracy": 2.0}


def test_a_damaged_line_of_results_is_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    for name in "abc":
        Results(path).add((name,), {"accuracy": 1.0})
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:10] + "\x00" + lines[1][12:], lines[2]]) + "\n")
    again = Results(path)
    assert [again.get((name,)) is not None for name in "abc"] == [True, False, True]


def test_publishing_links_and_a_link_survives_its_source(tmp_path: Path) -> None:
    write_text(tmp_path / "work" / "a", "x")
    publish(tmp_path / "work" / "a", tmp_path / "out" / "a")
    assert os.path.samefile(tmp_path / "work" / "a", tmp_path / "out" / "a")
    (tmp_path / "work" / "a").unlink()
    assert (tmp_path / "out" / "a").read_text() == "x"


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    artefact.write(path, HEADER, ARRAYS)
    whole = path.read_bytes()
    for position in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"damaged or cut short|is no file of attcli"):
            artefact.header(path, "thing", "maker")


def hold(folder: str, begun: str, until: str) -> None:
    """Hold a folder in another process until a file is there."""
    with locked(Path(folder)):
        Path(begun).touch()
        while not Path(until).exists():
            time.sleep(0.01)


def test_one_process_at_a_time_but_it_may_enter_twice(tmp_path: Path) -> None:
    with locked(tmp_path), locked(tmp_path):
        pass
    begun, until = tmp_path / "begun", tmp_path / "until"
    other = multiprocessing.get_context("spawn").Process(target=hold, args=(*map(str, (tmp_path, begun, until)),))
    other.start()
    while not begun.exists():
        time.sleep(0.01)
    with pytest.raises(UserError, match="another attcli works in"), locked(tmp_path):
        pass
    looks = iter([True, True, False])
    with pytest.raises(UserError, match="another attcli works in"), locked(tmp_path, wait=lambda: next(looks)):
        pass
    until.touch()
    with locked(tmp_path, wait=lambda: True):
        pass
    other.join()


def test_what_dead_processes_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    others = tmp_path / "deep" / ".a.h5.x1y2.tmp"  # perhaps another process's, which is alive
    for path in (tmp_path / ".a.h5.x1y2.tmp", others, tmp_path / "a.h5", tmp_path / "b.tmp"):
        path.touch()
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".a.h5.x1y2.tmp", "a.h5", "b.tmp", "deep"]
    assert others.exists()


def growing(folder: Path) -> experts.Growing:
    return experts.Growing(folder / "expert-0000.h5", np.dtype("float32"))


def test_an_epoch_costs_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = trajectory(40, size=1000).parameters
    expert, sizes = growing(tmp_path), []
    for i, row in enumerate(rows):
        before = sum(file.stat().st_size for file in tmp_path.iterdir())
        expert.append(row, 1.0 if i else None, 50.0 if i else None)
        sizes.append(sum(file.stat().st_size for file in tmp_path.iterdir()) - before)
    assert max(sizes) < 4000 + 300
    again = growing(tmp_path)
    assert again.epochs == 39
    assert all(np.array_equal(a, b) for a, b in zip(again.trajectory().parameters, rows, strict=True))


@pytest.mark.parametrize("cut", [1, 100, 399, 401])
def test_a_torn_row_is_cut_off(tmp_path: Path, cut: int) -> None:
    rows = trajectory(4, size=100).parameters
    expert = growing(tmp_path)
    for i, row in enumerate(rows):
        expert.append(row, 1.0 if i else None, 50.0 if i else None)
    os.truncate(tmp_path / "expert-0000.rows", 1600 - cut)
    again = growing(tmp_path)
    assert again.epochs == (2 if cut < 400 else 1)
    again.append(rows[again.epochs + 1], 1.0, 50.0)
    assert np.array_equal(growing(tmp_path).trajectory().parameters[-1], rows[again.epochs])


def test_the_momentum_belongs_to_the_last_row(tmp_path: Path) -> None:
    rows = trajectory(4, size=100).parameters
    expert = growing(tmp_path)
    expert.append(rows[0], None, None)
    for row in rows[1:]:
        expert.append(row, 1.0, 50.0, velocity=row + 1)
    assert np.array_equal(growing(tmp_path).trajectory().velocity, rows[3] + 1)
    # Killed after the momentum was saved, before its row was: the row before it has the momentum before it.
    os.truncate(tmp_path / "expert-0000.rows", 1200)
    again = growing(tmp_path)
    assert again.epochs == 2
    assert np.array_equal(again.trajectory().velocity, rows[2] + 1)


def test_a_row_without_its_momentum_does_not_count(tmp_path: Path) -> None:
    rows = trajectory(5, size=100).parameters
    expert = growing(tmp_path)
    expert.append(rows[0], None, None)
    for row in rows[1:]:
        expert.append(row, 1.0, 50.0, velocity=row + 1)
    (tmp_path / "expert-0000.velocity-4").write_bytes(b"torn")
    again = growing(tmp_path)
    assert again.epochs == 3
    assert np.array_equal(again.trajectory().velocity, rows[3] + 1)
    (tmp_path / "expert-0000.velocity-3").unlink()
    assert growing(tmp_path).epochs == 0  # nothing has its momentum: trained anew from the start


def test_a_damaged_part_of_the_history_is_set_aside(tmp_path: Path) -> None:
    for begin, end in ((0, 4), (4, 6), (6, 9)):
        history.write_part(tmp_path, [record(i) for i in range(begin, end)])
    (tmp_path / "part-0000004.npz").write_text("no archive")
    assert history.collect(tmp_path, 9)["iteration"].tolist() == [0, 1, 2, 3, 6, 7, 8]
    assert (tmp_path / "part-0000004.npz.damaged").exists()


def test_a_set_of_the_first_schema_is_read_on() -> None:
    kept = synthetic.read(Path(__file__).with_name("schema1-synthetic.h5"))
    assert kept.about["dataset"] == "digits"
    assert {kind: images.shape for kind, images in kept.variants.items()} == {
        "synthetic": (10, 1, 8, 8),
        "ema": (10, 1, 8, 8),
    }
    assert kept.labels.tolist() == list(range(10))
    assert kept.lr == pytest.approx(0.0100174, rel=1e-4)
    assert kept.normaliser is not None
