"""Experts of the released codes: imported, distilled from, exported again."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import functional_call

from attcli.interchange import released_experts
from attcli.matching.parameters import Layout
from attcli.networks import convnet
from attcli.store import artefact, experts, history
from tests.conftest import Cli
from tests.interchange import released
from tests.test_cli import refused

RESULTS = Path("artifacts/experts")


def imported(cli: Cli, *words: str) -> list[str]:
    """Import the files in `buffers`; the flags that distil from them."""
    said = cli.small("import", "buffers", *words)
    return said.removeprefix("distil from them with").split()


def test_released_experts_import_distil_and_export_equal(cli: Cli) -> None:
    held = released.buffers(Path("buffers"))
    flags = imported(cli)
    assert flags[:3] == ["--experts", "4", "--set"]
    files = experts.present(RESULTS)
    header, first = experts.read(files[0])
    assert (len(files), first.epochs) == (4, 3)
    assert header.about["imported"]["file"] == "replay_buffer_0.pt"
    assert header.settings["buffer"] == {"imported": flags[3].removeprefix("buffer.imported=")}
    for file, trajectory in zip(files, [expert for content in held for expert in content], strict=True):
        rows = experts.read(file)[1].parameters
        for row, epoch in zip(rows, trajectory, strict=True):
            assert np.array_equal(row, torch.cat([part.flatten() for part in epoch]).numpy())

    cli.small("distill", *flags)
    _, arrays = artefact.read(Path("artifacts/history.h5"), history.KIND, history.MAKER)
    assert set(arrays["expert"].tolist()) <= {0, 1, 2, 3}
    assert len(arrays["loss"]) == 6
    assert np.isfinite(arrays["loss"]).all()
    assert cli.small("distill", *flags, "--dry-run").count("nothing to do") == 3

    cli("export", "--to", "released-experts", "--out", "again")
    assert sorted(path.name for path in Path("again").iterdir()) == ["replay_buffer_0.pt", "replay_buffer_1.pt"]
    for number, content in enumerate(held):
        assert released.equal(torch.load(f"again/replay_buffer_{number}.pt", weights_only=True), content)


def test_files_of_one_name_from_two_folders_go_out_whole(cli: Cli) -> None:
    held = [*released.buffers(Path("buffers")), *released.buffers(Path("more"), seed=100)]
    imported(cli, "more")
    cli("export", "--to", "released-experts", "--out", "again")
    (file,) = Path("again").iterdir()
    assert released.equal(torch.load(file, weights_only=True), [expert for content in held for expert in content])


def test_experts_that_are_there_already_are_told_and_none_of_two_exports_stay_together(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.small("buffer")
    out = Path("exported")
    out.mkdir()
    for number in (0, 7):
        (out / f"replay_buffer_{number}.pt").touch()
    words = ("export", "--to", "released-experts", "--out", "exported")
    assert "replay_buffer_0.pt is there already; --force overwrites it" in refused(cli, *words)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(released_experts, "write_experts", killed)
        cli(*words, "--force", code=130)
    assert [file.name for file in out.iterdir()] == ["replay_buffer_7.pt"]
    said = cli._invoke([*words, "--force"]).stderr
    assert "replay_buffer_7.pt is there already, and programs will read its experts along with these" in said
    assert (out / "replay_buffer_0.pt").stat().st_size


def test_parameters_are_in_the_order_of_our_networks(cli: Cli) -> None:
    torch.manual_seed(0)
    theirs, ours = released.ConvNet(), convnet.build(1, 10, 8, depth=2, width=8)
    layout, images = Layout.of(ours), released.digits()[0][:20]
    row = torch.cat([parameter.detach().flatten() for parameter in theirs.parameters()])
    assert torch.allclose(functional_call(ours, layout.unflatten(row), images), theirs(images), atol=1e-6)


def test_own_experts_go_out_and_in_again(cli: Cli) -> None:
    cli.small("buffer")
    own = [experts.read(file)[1] for file in experts.present(RESULTS)]
    rows = [[trajectory.parameters[i] for i in range(4)] for trajectory in own]
    cli("export", "--to", "released-experts", "--out", "buffers")
    line = refused(cli, "import", "buffers", small=True)
    assert "expert-0000.h5 was trained here, and imported experts are asked for (sha256:" in line
    imported(cli, "--artifacts", "other")
    for file, kept in zip(experts.present(Path("other/experts")), rows, strict=True):
        again = experts.read(file)[1].parameters
        assert all(np.array_equal(again[i], row) for i, row in enumerate(kept))


def test_settings_say_which_experts_are_used(cli: Cli) -> None:
    released.buffers(Path("buffers"), files=1)
    flags = imported(cli)
    line = refused(cli, "distill", small=True)
    assert f"was imported ({flags[3].removeprefix('buffer.imported=')})" in line
    assert f"add --set {flags[3]}" in line
    assert "--force" in line
    assert "was imported" in refused(cli, "distill", "--no-auto", small=True)
    other = [*flags[:3], "buffer.imported=sha256:0123456789abcdef"]
    assert "was imported" in refused(cli, "distill", *other, small=True)
    assert "5 experts are asked for" in refused(cli, "distill", *flags[2:], "--experts", "5", small=True)
    longer = ("--set", "distill.max_start_epoch=5")
    assert "6 epochs of experts are asked for" in refused(cli, "distill", *flags, *longer, small=True)
    assert "can't be trained anew" in refused(cli, "buffer", *flags, "--fresh", small=True)
    cli.small("buffer", "--force")
    assert "imported" not in artefact.header(experts.path(RESULTS, 0), experts.KIND, "").about
    line = refused(cli, "buffer", *flags, small=True)
    assert "was trained here, and imported experts are asked for" in line
    cli.small("buffer", *flags, "--force")
    assert "imported" in artefact.header(experts.path(RESULTS, 0), experts.KIND, "").about


def test_what_dvc_deletes_comes_back_from_the_kept_work(cli: Cli) -> None:
    released.buffers(Path("buffers"), files=1)
    flags = imported(cli)
    before = [file.read_bytes() for file in experts.present(RESULTS)]
    shutil.rmtree(RESULTS)
    cli.small("buffer", "--no-auto", *flags)
    assert [file.read_bytes() for file in experts.present(RESULTS)] == before
    shutil.rmtree(".attcli")
    cli.small("buffer", "--no-auto", *flags)
    assert [file.read_bytes() for file in experts.present(RESULTS)] == before
    shutil.rmtree(RESULTS)
    shutil.rmtree(".attcli")
    line = refused(cli, "buffer", "--no-auto", *flags, small=True)
    assert "are not here; import their files again" in line
    assert "import their files again" in cli.small("buffer", *flags, "--dry-run")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--set", "network.width=16"), "parameter 0 is [8, 1, 3, 3] there, and [16, 1, 3, 3] (0.weight) in"),
        (("--set", "network.depth=1"), "--set network.arch=convnet --set network.depth=2 --set network.width=8"),
        (("--set", "network.arch=mlp"), "in arch mlp; say which network they are of: it looks like"),
        (("--lr", "0.1"), "--lr is the learning rate of a set"),
        (("--from", "released"), "buffers holds 0 files images*.pt"),
        (("--from", "pt"), "unknown format 'pt'"),
    ],
)
def test_experts_of_another_network(cli: Cli, flags: tuple[str, ...], message: str) -> None:
    released.buffers(Path("buffers"), files=1, experts=1)
    assert message in refused(cli, "import", "buffers", *flags, small=True)
    assert not RESULTS.exists()
