"""An ensemble for people: its gains, weights and corrections."""

from __future__ import annotations

from heads.ensembles.posthoc import Correction
from heads.ensembles.run import Ensemble
from heads.ensembles.survey import Gain


def ensemble_table(written: Ensemble) -> str:
    """Return lines about an ensemble: gains, weights, the effect of each correction, disagreement of its members."""
    lines = [f"action@1: {_with_interval(gain)} points over {baseline}" for baseline, gain in written.gains.items()]
    if written.is_fitted:
        lines.append(
            "Validation is cross-fitted: each video is predicted with weights that were fitted to other videos."
        )
        for task, weights in written.weights.items():
            order = sorted(zip(weights, written.names, strict=True), key=lambda pair: -pair[0])
            largest = ", ".join(f"{name} {weight:.2f}" for weight, name in order if weight >= 0.005)
            lines.append(f"weights of {task}s: {largest}")
    for name, changes in written.corrections.items():
        effects = "; ".join(f"{figure} {_with_interval(gain)}" for figure, gain in changes.items())
        lines.append(
            f"{name.replace('_', '-')} alone ({_fitted(written.correction, name)} in the ensemble): {effects} points"
        )
    if 0 < written.num_with_actions < len(written.names):
        lines.append(f"scores of actions: of the {written.num_with_actions} members that have an action classifier")
    if written.disagreement:
        differing = ", ".join(f"{task} {share:.1f} %" for task, share in written.disagreement.items())
        lines.append(f"two members predict different classes for this share of the segments: {differing}")
    return "\n".join(lines)


def _with_interval(gain: Gain) -> str:
    points, low, high = gain
    return f"{points:+.1f} (95 % interval: {low:+.1f} to {high:+.1f})"


def _fitted(correction: Correction, name: str) -> str:
    """Return the fitted parameters of one correction as text."""
    powers = {
        "pairs": correction.pair_power,
        "fold_actions": correction.action_power,
        "sequence": correction.sequence_power,
    }
    if name in powers:
        return f"power {powers[name]:.2g}"
    letter, (verb, noun) = ("T", correction.temperature) if name == "temperature" else ("tau", correction.tau)
    return f"{letter} {verb:.2f} for verbs, {noun:.2f} for nouns"
