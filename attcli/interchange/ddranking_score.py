"""Score the set in this folder with DD-Ranking: run `python score.py` here; config.yaml says how.

`attcli export --to ddranking` writes this file. It needs torch and ddranking 0.2.0, but not attcli.
"""

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class ByNumber(dict[Any, Any]):
    """Classes by their numbers, which may be tensors, as those of whitened images: 0.2.0 does not find them."""

    def __missing__(self, number: Any) -> Any:
        if isinstance(number, int):
            raise KeyError(number)
        return self[int(number)]


def hard_scorer(config: Any) -> Any:
    """DD-Ranking's score for class numbers, whose table can be written.

    0.2.0 notes the score of each run twice and the other figures once, and such a table it cannot write.
    """
    from ddranking.metrics import hard_label
    from ddranking.utils import save_results

    def save_once(results: dict[str, list[float]], path: str) -> None:
        runs = len(results["hard_label_recovery"])
        save_results({name: values[:: len(values) // runs] for name, values in results.items()}, path)

    hard_label.save_results = save_once
    return hard_label.LabelRobustScoreHard(config=config)


def soft_scorer(config: Any) -> Any:
    """DD-Ranking's score for soft labels, which gives random images the labels of the first teacher.

    0.2.0 means to do so, but ends with an error: it calls functions with too few arguments, and by other names.
    """
    from ddranking.metrics import LabelRobustScoreSoft
    from ddranking.utils import get_random_data_tensors

    class Scorer(LabelRobustScoreSoft):  # type: ignore[misc]  # of a package that mypy may not find
        @property
        def teacher_model(self) -> Any:
            return self.teacher_models[0]

        def _get_random_data_helper(self, eval_iter: int) -> tuple[None, Any, Any]:
            images, _ = get_random_data_tensors(
                self.dataset,
                self.dst_train,
                self.class_to_indices,
                self.ipc,
                self.class_map,
                eval_iter,
                self.random_data_path,
            )
            return None, images, self._generate_soft_labels(images)

    return Scorer(config=config)


def check(config: Any, soft: bool) -> None:
    """End with one line if DD-Ranking lacks what it needs for this score."""
    from ddranking.utils import REAL_DATA_TRAINING_CONFIG

    dataset, network = config.get("dataset"), config.get("model_name")
    if config.get("eval_full_data") and f"{dataset}-{network}" not in REAL_DATA_TRAINING_CONFIG:
        sys.exit(
            f"score.py: DD-Ranking does not say how {network} is trained on all images of {dataset}, only "
            f"{', '.join(REAL_DATA_TRAINING_CONFIG)}; choose one of these networks as model_name in config.yaml"
        )
    for name in config.get("teacher_model_names") or () if soft else ():
        teacher = Path(config.get("teacher_dir"), dataset, name, "ckpt_best.pt")
        if not teacher.exists():
            sys.exit(
                f"score.py: {teacher} is missing, the teacher that labels random images; put the parameters of a "
                f"trained {name} of DD-Ranking there, or change teacher_dir in config.yaml"
            )


def main() -> None:
    """Score the set; the figures are printed, and kept in the file that config.yaml names."""
    import torch
    from ddranking.config import Config

    config = Config.from_file(str(HERE / "config.yaml"))
    if config.get("device") == "cuda" and not torch.cuda.is_available():
        config.update({"device": "cpu"})
    images, labels, lr = (torch.load(HERE / f"{name}.pt", weights_only=True) for name in ("images", "labels", "lr"))
    soft = labels.is_floating_point()
    check(config, soft)
    scorer = soft_scorer(config) if soft else hard_scorer(config)
    scorer.class_map = ByNumber(scorer.class_map)
    named = {"soft_labels" if soft else "hard_labels": labels}
    scorer.compute_metrics(image_tensor=images, syn_lr=lr, **named)


if __name__ == "__main__":
    main()
