"""The loss of a batch: the losses of verb, noun, actions and their classifier, and distillation, added up."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from features.annotations import NUM_CLASSES, Segments
from features.predictions import Predictions
from heads.config import Objective
from heads.data.augment import Mixture
from heads.losses.action import ActionLoss
from heads.losses.catalogue import build_loss, parse_loss
from heads.losses.class_counts import class_counts, labels_of
from heads.losses.distillation import distillation
from heads.models.shape import Logits


class TrainingLoss(nn.Module):
    """Logits of a batch and positions of its segments in the training split -> the mean loss, a scalar.

    Args:
        segments: the training segments, labelled.
        teacher: predictions for at least these; None without a teacher.
        pairs: (A, 2), the actions of the action classifier; none without one.
    """

    verb_class: torch.Tensor
    noun_class: torch.Tensor
    action_class: torch.Tensor

    def __init__(
        self, objective: Objective, segments: Segments, teacher: Predictions | None, pairs: np.ndarray | None = None
    ) -> None:
        super().__init__()
        self._objective = objective
        self._has_classifier = pairs is not None and len(pairs) > 0
        # Task -> the beginning of the names of its settings; --action-weight is that of `ActionLoss`.
        tasks = {task: task for task in NUM_CLASSES} | ({"action": "action_head"} if self._has_classifier else {})
        self._initial_logits: Logits = {}
        self.losses = nn.ModuleDict()
        for task, name in tasks.items():
            labels = torch.tensor(labels_of(segments, task, pairs))
            self.register_buffer(f"{task}_class", labels, persistent=False)
            own_loss = getattr(objective, f"{name}_loss")
            option = f"--{name.replace('_', '-')}-loss" if own_loss else "--loss"
            spec = parse_loss(own_loss or objective.loss, option=option)
            counts = class_counts(segments, task, pairs)
            task_loss = build_loss(spec, torch.from_numpy(counts))
            self._initial_logits[task] = torch.from_numpy(task_loss.initial_logits(counts))
            self.losses[task] = task_loss
        if objective.action_weight:
            self.action = ActionLoss(self.verb_class, self.noun_class)
        self._has_teacher = teacher is not None
        if teacher is not None:
            aligned = teacher.aligned(tuple(segments.narration_id))
            for task in NUM_CLASSES:
                self.register_buffer(f"teacher_{task}", torch.from_numpy(getattr(aligned, task)), persistent=False)

    def initial_logits(self) -> Logits:
        """Return the logits (K,) of each task at which a head that sees nothing loses least."""
        return self._initial_logits

    def forward(self, logits: Logits, index: torch.Tensor, mixture: Mixture | None, progress: float) -> torch.Tensor:
        """Return the mean loss of a batch.

        Args:
            logits: (B, K) by task.
            index: (B,) int64, positions of the segments in the training split.
            mixture: the segments that they are mixed with, if any.
            progress: share of the training that is over.
        """
        loss = self._of_segments(logits, index, progress)
        if mixture is not None:
            partner_loss = self._of_segments(logits, index[mixture.partner], progress)
            loss = torch.lerp(partner_loss, loss, mixture.own)
        return loss.mean()

    def _of_segments(self, logits: Logits, index: torch.Tensor, progress: float) -> torch.Tensor:
        """Return the loss of each row against the labels, and the teacher's predictions, of these segments: (B,)."""
        objective = self._objective
        hard = logits["verb"].new_zeros(len(index))  # against labels
        soft = hard  # against the teacher
        for task in NUM_CLASSES:
            weight = getattr(objective, f"{task}_weight")
            if weight:
                labels = getattr(self, f"{task}_class")[index]
                hard = hard + weight * self.losses[task](logits[task], labels, progress)
            if weight and self._has_teacher:
                teacher_logits = getattr(self, f"teacher_{task}")[index]
                soft = soft + weight * distillation(logits[task], teacher_logits, objective.temperature)
        if objective.action_weight:
            pair = self.verb_class[index], self.noun_class[index]
            hard = hard + objective.action_weight * self.action(logits["verb"], logits["noun"], *pair)
        loss = hard if not self._has_teacher else torch.lerp(hard, soft, objective.teacher_weight)
        if self._has_classifier and objective.action_head_weight:
            # A teacher has no part in it: its predictions are of verbs and nouns.
            labels = self.action_class[index]
            loss = loss + objective.action_head_weight * self.losses["action"](logits["action"], labels, progress)
        return loss
