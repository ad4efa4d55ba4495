"""The files in deploy/ and the Dockerfile: they parse, agree with each other, and run commands that exist."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.main import get_command

from attcli import container
from attcli.cli import app
from deploy import install_dependencies
from tests.dvc_deps import REPOSITORY

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")


def documents(name: str) -> list[Any]:
    return list(YAML(typ="safe", pure=True).load_all((REPOSITORY / "deploy" / name).read_text(encoding="utf-8")))


def parse(words: list[str]) -> None:
    """Fail unless these words are a command of attcli."""
    group: Any = get_command(app)
    context = group.make_context("attcli", words)
    _, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
    command.make_context(command.name, rest, parent=context)


def dockerfile(instruction: str) -> list[str]:
    """The arguments of all instructions of this name, with continued lines joined."""
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.M))
    return [line.partition(" ")[2].strip() for line in text.splitlines() if line.startswith(f"{instruction} ")]


def test_the_base_image_is_an_argument_with_a_digest_as_its_default() -> None:
    first = dockerfile("ARG")[0]
    assert re.fullmatch(r"BASE_IMAGE=nvidia/cuda:[\w.-]+@sha256:[0-9a-f]{64}", first)
    assert {line.split()[0] for line in dockerfile("FROM")} == {"${BASE_IMAGE}", "base", "builder"}


def test_the_environment_of_the_image() -> None:
    variables = dict(word.split("=", 1) for line in dockerfile("ENV") for word in shlex.split(line))
    folder = Path(dockerfile("WORKDIR")[-1])
    assert Path(variables["HOME"]).is_relative_to(folder)
    assert Path(variables["TORCHINDUCTOR_CACHE_DIR"]).is_relative_to(folder)
    assert container.OWN_MARK in variables
    assert json.loads(dockerfile("ENTRYPOINT")[-1]) == ["attcli"]
    labels = dict(word.split("=", 1) for line in dockerfile("LABEL") for word in shlex.split(line))
    named = {name.removeprefix("org.opencontainers.image.") for name in labels}
    assert named >= {"title", "description", "licenses", "revision", "base.name"}


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().split()
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copies = [line.split()[:-1] for line in dockerfile("COPY") if not line.startswith("--from")]
    assert {source for sources in copies for source in sources} == allowed
    assert all((REPOSITORY / name).exists() for name in allowed)


def test_dependencies_are_installed_before_the_code_is_copied() -> None:
    install = DOCKERFILE.index("python3 install_dependencies.py")
    assert install < DOCKERFILE.index("COPY attcli attcli")
    assert DOCKERFILE.index("COPY --from=dependencies") < DOCKERFILE.index("/out/*.whl")


def test_compose_has_a_profile_with_gpus_and_one_without() -> None:
    (compose,) = documents("compose.yaml")
    services = compose["services"]
    assert set(services) == {"gpu", "cpu"}
    for name, service in services.items():
        assert service["profiles"] == [name]
        assert service["volumes"] == ["${RESULTS:-../results}:/work"]
        parse(service["command"])
    (device,) = services["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert "deploy" not in services["cpu"]


def test_the_job_of_kubernetes_starts_as_many_machines_as_torchrun_waits_for() -> None:
    service, claim, job = documents("kubernetes.yaml")
    assert [document["kind"] for document in (service, claim, job)] == ["Service", "PersistentVolumeClaim", "Job"]
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"
    pod = spec["template"]["spec"]
    (run,) = pod["containers"]
    options = dict(word[2:].split("=", 1) for word in run["args"] if word.startswith("--") and "=" in word)
    assert spec["completions"] == spec["parallelism"] == int(options["nnodes"])
    assert run["resources"]["limits"]["nvidia.com/gpu"] == int(options["nproc-per-node"])
    name, service_name = options["rdzv-endpoint"].partition(":")[0].split(".")
    assert name == f"{job['metadata']['name']}-0"
    assert service_name == pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert {mount["name"] for mount in run["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert pod["securityContext"]["fsGroup"] == 0
    parse(run["args"][run["args"].index("attcli") + 1 :])


def test_the_arguments_of_the_job_are_those_of_torchrun() -> None:
    from torch.distributed.run import get_args_parser

    args = documents("kubernetes.yaml")[2]["spec"]["template"]["spec"]["containers"][0]["args"]
    asked = get_args_parser().parse_args(args)
    assert (asked.module, asked.training_script) == (True, "attcli")
    assert asked.training_script_args[0] == "distill"


LOCK = """\
numpy==2.4.0 \\
    --hash=sha256:aa
nvidia-cublas==13.4.1.3 ; sys_platform == 'linux' \\
    --hash=sha256:bb
torch==2.15.0 \\
    --hash=sha256:cc \\
    --hash=sha256:dd
torchvision==0.29.2 \\
    --hash=sha256:ee
triton==3.9.0 ; sys_platform == 'linux' \\
    --hash=sha256:ff
typer==0.29.2 \\
    --hash=sha256:00
"""


def test_another_build_of_torch_leaves_all_other_hashes_and_no_cuda(tmp_path: Path) -> None:
    lock, rest = tmp_path / "lock", tmp_path / "rest"
    lock.write_text(LOCK)
    assert install_dependencies.commands("pip", lock, "", rest) == [
        ["pip", "install", "--require-hashes", "-r", str(lock)]
    ]
    left = install_dependencies.without_torch(install_dependencies.entries(LOCK))
    assert left == "numpy==2.4.0 \\\n    --hash=sha256:aa\ntyper==0.29.2 \\\n    --hash=sha256:00\n"
    others, torch = install_dependencies.commands("pip", lock, "https://example.org/cpu", rest)
    assert others == ["pip", "install", "--require-hashes", "--no-deps", "-r", str(rest)]
    assert torch[2:] == ["--no-deps", "--index-url", "https://example.org/cpu", "torch==2.15.0", "torchvision==0.29.2"]
    _, torch = install_dependencies.commands("pip", lock, "/wheels", rest)
    assert torch[2:] == ["--no-deps", "--no-index", "--find-links", "/wheels", "torch", "torchvision"]


@pytest.mark.parametrize("lock", ["requirements-image.lock", "requirements-tools.lock"])
def test_the_locks_agree(lock: str) -> None:
    def pins(name: str) -> dict[str, set[str]]:
        packages = install_dependencies.entries((REPOSITORY / name).read_text())
        return {package: set(re.findall(r"^\S+==\S+", text, re.M)) for package, text in packages.items()}

    main, other = pins("requirements.lock"), pins(lock)
    assert {name: pin for name, pin in other.items() if not pin <= main.get(name, pin)} == {}, "run `make lock`"
    if lock == "requirements-image.lock":
        assert set(other) <= set(main)
        assert {"torch", "torchvision", "dvc", "matplotlib", "timm"} <= set(other)
        assert not {"pytest", "mypy", "ruff"} & set(other)
