"""A bidirectional LSTM over the steps; its outputs are averaged over time, with a linear layer per task.

LSTM: Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997; both directions: Graves and Schmidhuber, 2005.
"""

from __future__ import annotations

from dataclasses import asdict

from torch import nn

from heads.data.steps import Steps
from heads.models.options import BiLstmConfig
from heads.models.pooling import Classifiers, bidirectional_lstm, lstm_outputs, masked_mean
from heads.models.shape import HeadShape, Logits


class BiLstm(nn.Module):
    """Steps -> logits by task. The LSTM reads the context too; its outputs are averaged over the segment only."""

    def __init__(self, shape: HeadShape, config: BiLstmConfig) -> None:
        super().__init__()
        self.lstm = bidirectional_lstm(shape.dim, **asdict(config))
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = Classifiers(2 * config.hidden, shape.tasks)

    def forward(self, steps: Steps) -> Logits:
        x = masked_mean(lstm_outputs(self.lstm, steps.features, steps.mask), steps.within)
        return self.classifier(self.dropout(x))
