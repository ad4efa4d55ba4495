"""Folders of images: layouts, classes, splits, the digest, and folders that are not what they should be."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from attcli import registry
from attcli.data import contents, image, imagefiles, sources
from attcli.data.sources import folder as own
from attcli.errors import MissingError, UserError
from tests.data.pictures import OLD, classes, picture, request


def test_train_and_test_folders(tmp_path: Path) -> None:
    root = tmp_path / "images"
    classes(root / "train", ("b", "a", "ç"), 4)
    classes(root / "val", ("b", "a", "ç"), 2)
    (root / "train" / "b" / "notes.txt").write_text("not an image")
    (root / "train" / ".hidden").mkdir()
    picture(root / "train" / "a" / "more" / "9.PNG", seed=9)
    info = sources.describe(request(root))
    assert (info.classes, info.channels, info.resolution) == (3, 3, 8)
    assert (info.train, info.smallest_class, info.test, info.seeded) == (13, 4, 6, False)
    source = sources.load(request(root))
    assert source.classes == ["a", "b", "ç"]
    assert source.train.labels.tolist() == [0] * 5 + [1] * 4 + [2] * 4
    assert source.train.read(np.arange(13)).shape == (13, 3, 8, 8)
    assert [source.train.name(i) for i in (0, 4, 5)] == ["train/a/0.png", "train/a/more/9.PNG", "train/b/0.png"]
    shutil.move(root / "val", root / "test")
    assert sources.describe(request(root)).test == 6


def test_a_share_of_each_class_becomes_test_images(tmp_path: Path) -> None:
    root = classes(tmp_path / "images", ("cat", "dog", "eel"), 10)
    asked = request(root, test_share=0.3, seed=4)
    info = sources.describe(asked)
    assert (info.train, info.smallest_class, info.test, info.seeded) == (21, 7, 9, True)
    source = sources.load(asked)
    assert np.bincount(source.test.labels).tolist() == [3, 3, 3]
    names = {source.train.name(i) for i in range(21)} | {source.test.name(i) for i in range(9)}
    assert len(names) == 30
    again, other = sources.load(asked), sources.load(request(root, test_share=0.3, seed=5))
    assert [again.test.name(i) for i in range(9)] == [source.test.name(i) for i in range(9)]
    assert [other.test.name(i) for i in range(9)] != [source.test.name(i) for i in range(9)]


def test_classes_are_chosen_and_ordered(tmp_path: Path) -> None:
    root = classes(tmp_path / "images", ("cat", "dog", "eel"), 4)
    source = sources.load(request(root, classes="eel,cat"))
    assert source.classes == ["eel", "cat"]
    assert source.train.name(0).startswith("eel/")
    both = tmp_path / "both"
    classes(both / "train", ("cat", "dog", "eel"), 2)
    classes(both / "test", ("cat", "eel"), 1)
    test = sources.load(request(both, classes="eel,dog,cat")).test
    assert [(test.name(i).split("/")[1], int(label)) for i, label in enumerate(test.labels)] == [("eel", 0), ("cat", 2)]
    with pytest.raises(UserError, match=r"unknown class .*'dgo'; did you mean 'dog'\?"):
        sources.describe(request(root, classes="dgo,cat"))
    with pytest.raises(UserError, match="names a class twice"):
        sources.describe(request(root, classes="cat,cat"))


def test_grey_and_the_common_size_are_found_out(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for name in ("a", "b"):
        for i in range(3):
            picture(root / name / f"{i}.png", mode="L", size=(12, 12))
    assert (sources.describe(request(root)).channels, sources.describe(request(root)).resolution) == (1, 12)
    assert sources.describe(request(root, channels="colour")).channels == 3
    picture(root / "a" / "wide.png", size=(14, 12))
    with pytest.raises(UserError, match=r"the sizes 12x12, 14x12; .*prepare.resolution=64"):
        sources.describe(request(root))
    info = sources.describe(request(root, resolution=6))
    assert (info.channels, info.resolution) == (3, 6)


def digest(root: Path) -> str:
    """The digest as a new process would find it."""
    imagefiles.forget()
    return sources.digest(request(root)) or ""


def test_the_digest_is_that_of_names_classes_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = classes(tmp_path / "images")
    looked: list[Path] = []
    look = image._look
    monkeypatch.setattr(image, "_look", lambda path: looked.append(Path(path)) or look(path))
    first = digest(root)
    assert len(looked) == 10
    assert digest(root) == first
    assert len(looked) == 10  # nothing was read again
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    assert digest(copy) == first
    looked.clear()
    picture(root / "cat" / "0.png", seed=77)
    os.utime(root / "cat" / "0.png", (OLD + 1, OLD + 1))
    changed = digest(root)
    assert changed != first
    assert looked == [root / "cat" / "0.png"]
    (root / "cat" / "1.png").rename(root / "cat" / "x.png")
    assert digest(root) not in (first, changed)


def test_a_file_that_changed_just_now_is_looked_at_again(tmp_path: Path) -> None:
    root = classes(tmp_path / "images")
    for path in root.rglob("*.png"):
        os.utime(path)
    first = digest(root)
    path = root / "cat" / "0.png"
    stat, size = path.stat(), path.stat().st_size
    path.write_bytes(bytes(size))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as if within one tick of the clock
    assert digest(root) != first


def test_a_file_that_vanishes_is_unreadable(tmp_path: Path) -> None:
    root = classes(tmp_path / "images")
    asked = request(root)
    listing = imagefiles.listing(asked, own._list)
    (root / "cat" / "0.png").unlink()
    assert contents.contents(listing, asked.work_dir)["cat/0.png"].sha256 == ""
    assert digest(root)


def test_a_file_that_could_not_be_read_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = classes(tmp_path / "images")
    real = image._bytes

    def refused(path: str | Path) -> bytes:
        if Path(path).name == "0.png":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(image, "_bytes", refused)
    without = digest(root)
    monkeypatch.undo()
    assert digest(root) != without
    listing = imagefiles.listing(request(root), own._list)
    assert all(content.sha256 for content in contents.contents(listing, tmp_path / "work").values())


def test_damaged_memory_of_files_is_just_made_anew(tmp_path: Path) -> None:
    root = classes(tmp_path / "images")
    first = digest(root)
    (kept,) = (tmp_path / "work").glob("images-*.json")
    for content in (
        '{"cat/0.png": 3, "dog',
        '{"cat/0.png": ["x", "", 1, 2], "cat/1.png": [[1], 2, 3, 4], "a": 3}',
        "[]",
    ):
        kept.write_text(content)
        assert digest(root) == first


def test_what_a_killed_process_had_begun_to_keep_is_removed(tmp_path: Path) -> None:
    root, work = classes(tmp_path / "images"), tmp_path / "work"
    digest(root)
    (kept,) = work.glob("images-*.json")
    (work / f".{kept.name}.abcd1234.tmp").write_text("{")
    kept.unlink()
    digest(root)
    assert [path.name for path in work.iterdir()] == [kept.name]


def linked(root: Path) -> None:
    outside = classes(root.parent / "outside", ("x",), 1)
    classes(root)
    (root / "cat" / "link.png").symlink_to(outside / "x" / "0.png")


def linked_class(root: Path) -> None:
    classes(root, ("a", "b"))
    (root / "c").symlink_to(classes(root.parent / "outside", ("x",), 1) / "x")


def broken_link(root: Path) -> None:
    classes(root)
    (root / "cat" / "link.png").symlink_to(root / "nowhere.png")


def no_classes(root: Path) -> None:
    picture(root / "0.png")


def one_class(root: Path) -> None:
    classes(root, ("cat",))


def empty_class(root: Path) -> None:
    classes(root)
    (root / "eel").mkdir()


def one_image(root: Path) -> None:
    classes(root)
    picture(root / "eel" / "0.png")


def other_test_classes(root: Path) -> None:
    classes(root / "train")
    classes(root / "test", ("cat", "eel"))


def empty_test(root: Path) -> None:
    classes(root / "train")
    (root / "test" / "cat").mkdir(parents=True)


def a_file(root: Path) -> None:
    root.write_text("")


def bytes_as_name(root: Path) -> None:
    classes(root)
    os.mkdir(os.fsencode(root) + b"/\xff\xfe")


def deep(root: Path) -> None:
    classes(root)
    picture(root / "cat" / "/".join("abcdefghijk") / "0.png")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, r"is not there; name the folder .* --data-dir"),
        (a_file, r"is no folder; name the folder .* --data-dir"),
        (linked, r"link.png is a link that leads out of .*; put a copy"),
        (linked_class, r"images/c is a link that leads out of"),
        (broken_link, r"link.png is a link that leads nowhere; delete it"),
        (no_classes, r"holds no folders; put the images of each class into a folder"),
        (one_class, r"a single class, cat; at least two"),
        (empty_class, r"no images of the class eel; add some"),
        (one_image, r"class eel has one image, .*; add some"),
        (other_test_classes, r"has the class eel, which train/ does not have"),
        (empty_test, r"no images of the classes; add some, or move the folder"),
        (bytes_as_name, r"has no UTF-8 name; rename it"),
        (deep, r"eight folders deep"),
    ],
)
def test_folders_that_are_not_what_they_should_be(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    root = tmp_path / "images"
    make(root)
    with pytest.raises(UserError, match=message) as caught:
        sources.describe(request(root))
    assert "\n" not in str(caught.value)


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    root = classes(tmp_path / "images")
    (root / "cat" / "link.png").symlink_to(root / "cat" / "0.png")
    (tmp_path / "linked").symlink_to(root)
    assert sources.describe(request(tmp_path / "linked", test_share=0.5)).train == 6


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder for a user without rights, as whom the test runs."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    if os.geteuid():
        yield folder
    else:
        try:
            yield folder
        finally:
            os.seteuid(0)
    shutil.rmtree(folder)


def test_folders_and_files_that_may_not_be_read(nobody: Path) -> None:
    root = classes(nobody / "images")
    (root / "cat" / "0.png").chmod(0)
    (root / "dog").chmod(0)
    if not os.geteuid():
        os.seteuid(65534)
    with pytest.raises(UserError, match=r"images/dog may not be read; .*chmod"):
        sources.describe(request(root))
    os.seteuid(os.getuid())
    (root / "dog").chmod(0o755)
    if not os.geteuid():
        os.seteuid(65534)
    decoded = sources.load(request(root, test_share=0.5)).train.decode(np.arange(6))
    other = sources.load(request(root, test_share=0.5)).test.decode(np.arange(4))
    assert [*decoded.problems.values(), *other.problems.values()] == ["it may not be read"]


def test_no_classes_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prepare\.classes names no class; name at least two, or leave it out"):
        sources.describe(request(classes(tmp_path / "images"), classes=()))


def test_there_is_no_dataset_of_that_name() -> None:
    with pytest.raises(UserError, match=r"--dataset folder --data-dir PATH reads images of your own"):
        registry.dataset("myimages")


def test_missing_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        sources.digest(request(tmp_path / "nowhere"))
