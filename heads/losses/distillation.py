"""Learning from the predictions of another head or of an ensemble."""

from __future__ import annotations

from torch import Tensor


def distillation(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return the divergence of each segment's softened probabilities from the teacher's: T^2 KL(teacher || student).

    Hinton et al., "Distilling the knowledge in a neural network", 2015. Gradients of softened probabilities shrink by
    T^2, so the factor keeps their share beside a cross-entropy the same at any temperature. At temperature 1 the
    gradient is that of cross-entropy with the teacher's probabilities as the target.

    Args:
        logits, teacher_logits: (B, K) float32, finite, of one task; the teacher's get no gradient.
        temperature: T above 0; logits are divided by it.

    Returns:
        (B,) float32; 0 where both agree, else above 0, up to rounding.
    """
    log_p = (logits / temperature).log_softmax(dim=1)
    log_teacher = (teacher_logits / temperature).log_softmax(dim=1)
    return temperature**2 * (log_teacher.exp() * (log_teacher - log_p)).sum(dim=1)
