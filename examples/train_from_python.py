"""Train two heads from Python, compare them, average them, and write a submission.

    make demo                                     # generates a miniature of the dataset in demo/
    python examples/train_from_python.py demo

The folder (data/ by default) holds annotations/ and either features/ or videos/.
"""

import sys
from pathlib import Path

import extract
import heads


def main(folder: Path) -> None:
    """Run stage 1 where there are no features yet, then stage 2; print what comes out."""
    annotations, features, runs = folder / "annotations", folder / "features", folder / "runs_from_python"

    # Stage 1: run a backbone over every annotated segment, once. `tiny_cnn` with random weights needs no download; for
    # real features choose a backbone from docs/backbones.md.
    if not any(features.glob("*/featureset.json")):
        summary = extract.run(
            backbone="tiny_cnn",
            weights="random:0",
            annotations=annotations,
            videos=folder / "videos",
            out=features / "tiny_cnn-seg16",
            device="cpu",
        )
        print(f"Extracted {summary.done} of {summary.segments} segments.")

    # Stage 2: train heads on the features. Each seed gives one outcome, with the folder of its run.
    members = []
    for head in ["mean_pool", "multiscale_lstm:hidden=64"]:
        outcomes = heads.train(
            head=head,
            features=features,
            annotations=annotations,
            runs=runs,
            seeds=[0, 1],
            epochs=12,
            batch_size=16,  # the miniature has fewer than a thousand segments
            device="cpu",
        )
        members += [outcome.folder for outcome in outcomes]

    # Compare them on validation, beside the most frequent classes and chance.
    for row in heads.evaluate(members):
        print(f"{row.name:20} action@1 {row.figures['action@1']:5.1f} %")

    # Average all of them, and write the files for the servers.
    ensemble = heads.ensemble(members, runs=runs, force=True)
    submission = heads.submit(ensemble.folder, force=True)
    print(f"{submission.num_segments} segments in {submission.paths[0].parent}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))
