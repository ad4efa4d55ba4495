"""The code that each DVC stage depends on. `python -m tests.dvc_deps` (`make deps`) writes it into dvc.yaml."""

from pathlib import Path

import grimp
from ruamel.yaml import YAML

REPOSITORY = Path(__file__).parents[1]
STAGES = ("prepare", "buffer", "distill", "evaluate")


def unit(module: str) -> str:
    """The dependency that stands for a module: a file, the whole of a package, and stages file by file."""
    first, *rest = module.split(".")[1:] or ["__init__"]
    if first == "stages":
        return f"attcli/stages/{rest[0]}.py" if rest else "attcli/stages/__init__.py"
    return f"attcli/{first}" if (REPOSITORY / "attcli" / first).is_dir() else f"attcli/{first}.py"


def imported(stage: str, graph: grimp.ImportGraph) -> list[str]:
    """The dependencies that stand for all modules that a stage imports, sorted."""
    module = f"attcli.stages.{stage}"
    return sorted({unit(name) for name in graph.find_upstream_modules(module) | {module}})


def main() -> None:
    """Rewrite the code among the deps of every stage in dvc.yaml."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    path = REPOSITORY / "dvc.yaml"
    pipeline = yaml.load(path.read_text())
    graph = grimp.build_graph("attcli", cache_dir=None)
    for stage in STAGES:
        deps = pipeline["stages"][stage]["deps"]
        deps[:] = [dep for dep in deps if not dep.startswith("attcli/")] + imported(stage, graph)
    with path.open("w") as file:
        yaml.dump(pipeline, file)


if __name__ == "__main__":
    main()
