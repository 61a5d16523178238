"""What a teacher is: a frozen network, its own input, its named outputs and the identity of its weights."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from extract.modalities.base import InputSpec, feed, shapes
from shards.errors import BadInput


@dataclass
class Teacher:
    """A frozen network and all that a target set's identity needs to know of it."""

    name: str
    """Safe as part of a folder's name."""
    architecture: str
    weights_sha256: str
    """`sha256_of_state` of the network: the same weights have one identity in any file format."""
    inputs: InputSpec
    outputs: dict[str, tuple[int, ...]]
    """Each output's shape for one sample, without the batch."""
    network: nn.Module
    """In eval mode, no parameter requires a gradient."""
    class_names: tuple[str, ...] | None
    extra_tokens: dict[str, int] = field(default_factory=dict)
    """For each output with a row a token: how many tokens that are no patches (CLS, registers) come first."""
    settings: dict[str, Any] | None = None
    """What a student is built from that starts with this network's first blocks, as JSON."""

    def taking(self, inputs: InputSpec) -> "Teacher":
        """This teacher, fed by `inputs`, with the outputs that it has of these."""
        if inputs is self.inputs:
            return self
        outputs = shapes(feed(self.network, inputs, inputs.example()))
        extra_tokens = {name: number for name, number in self.extra_tokens.items() if name in outputs}
        return replace(self, inputs=inputs, outputs=outputs, extra_tokens=extra_tokens)

    def only(self, names: Collection[str]) -> "Teacher":
        """This teacher, computing no other outputs than `names` where its network can leave some out."""
        only = getattr(self.network, "only", None)
        outputs = {name: self.outputs[name] for name in names}
        return replace(self, network=only(names) if only else self.network, outputs=outputs)


def freeze(
    name: str,
    architecture: str,
    network: nn.Module,
    inputs: InputSpec,
    class_names: tuple[str, ...] | None,
    weights_sha256: str | None = None,
) -> Teacher:
    """`network` as a teacher: frozen, hashed, and its outputs' shapes read off one example.

    `weights_sha256` is given where a library names the tensors, for it may rename them and the hash must stay.
    """
    network.eval().requires_grad_(False)
    outputs = shapes(feed(network, inputs, inputs.example()))
    if class_names is not None and [len(class_names)] != list(outputs.get("logits", ())):
        found = f"its logits have the shape {outputs['logits']}" if "logits" in outputs else "it gives no logits"
        raise BadInput(f"teacher {name}: {len(class_names)} class names, but {found}; give as many names as classes")
    weights_sha256 = weights_sha256 or sha256_of_state(network.state_dict())
    extra_tokens = getattr(network, "extra_tokens", {})
    return Teacher(name, architecture, weights_sha256, inputs, outputs, network, class_names, extra_tokens)


def sha256_of_state(state_dict: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 over names, dtypes, shapes and raw bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name].detach().cpu()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode() + b"\n")
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
