"""What training makes small: the losses of verb, noun and action, and what a teacher says, put together."""

from __future__ import annotations

import torch
from torch import nn

from features.annotations import NUM_CLASSES, Segments
from features.predictions import Predictions
from heads.config import Objective
from heads.data.augment import Mixture
from heads.losses.action import ActionLoss
from heads.losses.distillation import distillation
from heads.losses.tasks import build_loss, parse_loss
from heads.models.shape import Logits


class Target(nn.Module):
    """Logits of a batch and which segments these are -> the loss of the batch, a scalar.

    Args:
        segments: labelled, those that are trained on.
        teacher: predictions for at least these; None without one.
    """

    def __init__(self, objective: Objective, segments: Segments, teacher: Predictions | None) -> None:
        super().__init__()
        self._objective = objective
        self.losses = nn.ModuleDict()
        for task, num_classes in NUM_CLASSES.items():
            labels = torch.tensor(getattr(segments, f"{task}_class"))
            self.register_buffer(f"{task}_class", labels, persistent=False)
            spec = parse_loss(
                getattr(objective, f"{task}_loss") or objective.loss,
                option=f"--{task}-loss" if getattr(objective, f"{task}_loss") else "--loss",
            )
            self.losses[task] = build_loss(spec, torch.bincount(labels, minlength=num_classes))
        if objective.action_weight:
            self.action = ActionLoss(self.verb_class, self.noun_class)
        self._has_teacher = teacher is not None
        if teacher is not None:
            aligned = teacher.aligned(segments.narration_id)
            for task in NUM_CLASSES:
                self.register_buffer(f"teacher_{task}", torch.from_numpy(getattr(aligned, task)), persistent=False)

    def forward(self, logits: Logits, index: torch.Tensor, mixture: Mixture | None, done: float) -> torch.Tensor:
        """Give the mean loss of a batch.

        Args:
            logits: (B, K) by task.
            index: (B,) int64, which of the training segments these are.
            mixture: which other segments they are mixed with, if they are.
            done: share of the training that is over.
        """
        return self.each(logits, index, mixture, done).mean()

    def each(self, logits: Logits, index: torch.Tensor, mixture: Mixture | None, done: float) -> torch.Tensor:
        """Give the loss of each segment, (B,); it depends on no other, but for what it is mixed with."""
        loss = self._of_segments(logits, index, done)
        if mixture is not None:
            other = self._of_segments(logits, index[mixture.partner], done)
            loss = torch.lerp(other, loss, mixture.own)
        return loss

    def _of_segments(self, logits: Logits, index: torch.Tensor, done: float) -> torch.Tensor:
        """Give the loss of each row against the labels, and the teacher's word, of these segments: (B,)."""
        objective = self._objective
        verb_class, noun_class = self.verb_class[index], self.noun_class[index]
        hard = logits["verb"].new_zeros(len(index))
        soft = hard
        for task, labels in (("verb", verb_class), ("noun", noun_class)):
            weight = getattr(objective, f"{task}_weight")
            if weight:
                hard = hard + weight * self.losses[task](logits[task], labels, done)
            if weight and self._has_teacher:
                said = getattr(self, f"teacher_{task}")[index]
                soft = soft + weight * distillation(logits[task], said, objective.temperature)
        if objective.action_weight:
            hard = hard + objective.action_weight * self.action(logits["verb"], logits["noun"], verb_class, noun_class)
        return hard if not self._has_teacher else torch.lerp(hard, soft, objective.teacher_weight)
