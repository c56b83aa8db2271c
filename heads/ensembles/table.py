"""An ensemble in words: its gains, weights and corrections."""

from __future__ import annotations

from heads.ensembles.posthoc import Correction
from heads.ensembles.run import Ensemble, Gain


def ensemble_table(written: Ensemble) -> str:
    """Say what an ensemble gains, whom it trusts, what each correction does, and how much its members differ."""
    lines = [f"action@1: {_with_interval(gain)} over {what}" for what, gain in written.gains.items()]
    if written.is_fitted:
        lines.append("Validation is cross-fitted: each video is predicted by what the others say.")
        for task, weights in written.weights.items():
            order = sorted(zip(weights, written.members, strict=True), key=lambda pair: -pair[0])
            trusted = ", ".join(f"{member.name} {weight:.2f}" for weight, member in order if weight >= 0.005)
            lines.append(f"weights of {task}s: {trusted}")
    for name, changes in written.corrections.items():
        said = "; ".join(f"{figure} {_with_interval(gain)}" for figure, gain in changes.items())
        lines.append(f"{name} alone ({_fitted(written.correction, name)} in the ensemble): {said}")
    if written.disagreement:
        differing = ", ".join(f"{task} {share:.1f} %" for task, share in written.disagreement.items())
        lines.append(f"two members differ about the best {differing}")
    return "\n".join(lines)


def _with_interval(gain: Gain) -> str:
    points, low, high = gain
    return f"{points:+.1f} (95 %: {low:+.1f} to {high:+.1f})"


def _fitted(correction: Correction, name: str) -> str:
    """Name the numbers of one correction."""
    if name == "pairs":
        return f"power {correction.pair_power:.1f}"
    letter, (verb, noun) = ("T", correction.temperature) if name == "temperature" else ("tau", correction.tau)
    return f"{letter} {verb:.2f} for verbs, {noun:.2f} for nouns"
