"""Layers: how deep in a network each parameter lies, and the learning rate that follows from it.

Layer-wise decay as in BEiT (Bao et al. 2021, arXiv:2106.08254, appendix) and MAE (He et al. 2021, arXiv:2111.06377,
appendix A.1), after Clark et al. 2020 (arXiv:2003.10555): lr * decay^(num_layers - id).
"""

import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from distill.optimiser import parameter_groups

# a block or a stage: blocks.3, encoder.layer.3 or torchvision's layer3, with modules of its own inside
_BLOCK = re.compile(r"(?:^|.*?\.)(?:(?:blocks?|layers?)\.\d+|layer\d+)(?=\.\w+\.)")


def layer_ids(names: Iterable[str]) -> dict[str, int]:
    """The layer of each parameter, of names in the network's own order.

    0 for what comes before the first block (patch embedding, CLS, stem), 1, 2, ... for the blocks or stages, wherever
    they are (data2vec 2.0's prenet comes first), and one more for what comes after the last (norm, head). Where there
    are no blocks all is one layer.
    """
    found: dict[str, int] = {}
    blocks: list[str] = []
    outside: list[str] = []
    for name in names:
        if block := _BLOCK.match(name):
            if block[0] not in blocks:
                blocks.append(block[0])
                outside.clear()
            found[name] = blocks.index(block[0]) + 1
        else:
            found[name] = len(blocks)
            outside.append(name)
    after = dict.fromkeys(outside, len(blocks) + 1) if blocks else {}
    return found | after


def decayed_groups(network: nn.Module, lr: float, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """The trainable parameters by layer and weight decay, each group with its `peak_lr`; the last layer's is `lr`."""
    ids = layer_ids(name for name, _ in network.named_parameters())
    layers = {parameter: ids[name] for name, parameter in network.named_parameters()}
    num_layers = max(ids.values())
    return [
        {**group, "params": members, "peak_lr": lr * layer_decay ** (num_layers - layer)}
        for group in parameter_groups(network, weight_decay)
        for layer in range(num_layers + 1)
        if (members := [parameter for parameter in group["params"] if layers[parameter] == layer])
    ]
