"""How a published file lays out the weights of a network: what to take of it, and under which names.

Pure renaming: knows no file and no network, and loads no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from features.errors import DataError

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Layout:
    """How a published file holds the weights of a network. The fields are applied in this order.

    Attributes:
        key: of the state dict in a file that holds several, such as "trunk". The usual wrappers ("state_dict", "model",
            "module" and others) and the prefix "module." need none.
        prefix: of the network's names, such as "visual."; it is removed. Names without it belong to other parts, such
            as a text tower, and are left out.
        leave_out: prefixes of the names that features do not need, such as those of a classifier.
        rename: pairs of a regular expression and its replacement, as `re.sub` takes them. Each is applied to each name.
        convert: turns the state dict into one that the network takes, where new names are not enough. It has to pass
            on what it does not know.
    """

    key: str | None = None
    prefix: str = ""
    leave_out: tuple[str, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()
    convert: Callable[[State], State] | None = None

    def network_state(self, state: Mapping[str, torch.Tensor]) -> tuple[State, list[str]]:
        """Return the weights by the network's own names, and the published names that were left out.

        Raises:
            DataError: two names of the file stand for the same parameter.
        """
        network: dict[str, torch.Tensor] = {}
        left_out = []
        for published_name, tensor in state.items():
            name = published_name.removeprefix(self.prefix)
            if not published_name.startswith(self.prefix) or name.startswith(self.leave_out or ("\0",)):
                left_out.append(published_name)
                continue
            for pattern, replacement in self.rename:
                name = re.sub(pattern, replacement, name)
            if name in network:
                raise DataError(f"{published_name} and another name both stand for {name}")
            network[name] = tensor
        return self.convert(network) if self.convert else network, left_out
