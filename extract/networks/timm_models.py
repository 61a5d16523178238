"""Any image network of `timm` (https://github.com/huggingface/pytorch-image-models) by its name there, `timm:resnet18`.

Tensors keep timm's names behind `network.`, so its files load without renaming. Every network gives `logits` (where it
has a head) and `pooled`, what enters the last layer of its head: `forward_head(..., pre_logits=True)`. A network whose
blocks all keep the same row a patch gives dense targets as well (extract/networks/outputs.py).
"""

import contextlib
import inspect
import warnings
from collections.abc import Collection, Sequence
from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from extract.networks.dense import DenseNetwork
from extract.networks.outputs import TokenTargets
from shards.errors import BadInput, UnknownName, one_line

BASE_LR = 1e-3
"""By the square root rule ConvNeXt's (arXiv:2201.03545, table 5: 4e-3 for 4096); Swin and DeiT take half of it, the
ResNets of Wightman et al. 2021 (arXiv:2110.00476) twice as much."""
BUILD_ERRORS = (TypeError, ValueError, AssertionError, RuntimeError, LookupError, AttributeError)
"""What timm raises of arguments, sizes and weights that do not suit a network."""
_OWN = {*inspect.signature(timm.create_model).parameters, "features_only", "pretrained_model_args"}
"""Arguments that read files or make another kind of network; no file may give them."""


def build(
    architecture: str,
    num_classes: int | None,
    img_size: int | None = None,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> nn.Module:
    """The network behind `timm:`, freshly initialised as timm does it, whose forward gives logits and pooled features.

    `img_size` is for networks of one image size (`has_fixed_size`) alone; `drop_path_rate` is stochastic depth.
    """
    name = architecture.partition(":")[2]
    if "." in name:
        plain = architecture.partition(".")[0]
        raise BadInput(f"network {architecture}: names weights, but starts from random ones; give {plain}")
    given = {"img_size": img_size, "drop_rate": drop_rate, "drop_path_rate": drop_path_rate}
    arguments = {argument: value for argument, value in given.items() if value}
    network = create(f"network {architecture}", name, num_classes=num_classes, **arguments)
    for module in network.modules():
        module._non_persistent_buffers_set.clear()  # what the exported weights do not fill stays on the meta device
    return TimmClassifier(network)


def create(where: str, name: str, **arguments: Any) -> Any:
    """timm's network `name` with random weights; BadInput, which begins with `where`, where timm does not build it.

    It is an nn.Module with `forward_features`, `forward_head` and `num_classes`; timm has no class for that.
    """
    if not timm.is_model(name):
        raise UnknownName("network of timm", name, timm.list_models())
    if foreign := sorted(arguments.keys() & _OWN):
        raise BadInput(f"{where}: {foreign[0]} is no argument of a network; leave it out")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return timm.create_model(name, **arguments)
    except BUILD_ERRORS as error:
        shown = ", ".join(f"{argument}={value}" for argument, value in arguments.items())
        raise BadInput(f"{where}: timm cannot build it with {shown} ({one_line(error):.200}); give others") from error


def has_fixed_size(name: str) -> bool:
    """Whether the network is built for one image size, which `img_size` says."""
    config = get_pretrained_cfg(name) if timm.is_model(name) else None
    return config is not None and config.fixed_input_size


def check_size(where: str, network: Any, image_size: int) -> tuple[int, ...]:
    """The shape of what enters the head for one RGB image of that size; () where that is several tensors.

    BadInput, which begins with `where`, where the network takes no such image.
    """
    training = network.training
    try:
        with torch.no_grad():
            network.eval()  # a statistic of one black image is none of the weights
            features = network.forward_features(torch.zeros(1, 3, image_size, image_size))
            network.forward_head(features, pre_logits=True)
            return tuple(getattr(features, "shape", ()))
    except BUILD_ERRORS as error:
        raise BadInput(
            f"{where}: takes no images of {image_size} pixels ({one_line(error):.200}); give others by --view size"
        ) from error
    finally:
        network.train(training)


def with_outputs(where: str, network: Any, image_size: int) -> nn.Module:
    """`network`, in eval mode, with every output that it has, by name; raises as `check_size` does."""
    shape = check_size(where, network.eval(), image_size)
    layers: Sequence[Tensor] = ()
    if len(shape) == 3:
        with torch.no_grad(), contextlib.suppress(*BUILD_ERRORS):  # of a network whose blocks keep no tokens
            layers = _layers(network, torch.zeros(1, 3, image_size, image_size))[1]
    if layers and all(layer.shape == shape for layer in layers):
        return TimmTokens(network, len(layers))
    return TimmClassifier(network)


class TimmClassifier(nn.Module):
    """A network whose forward gives {"logits", "pooled"}, without logits where its head has no classes.

    Where a head drops out or normalises over the batch, each of the two draws and counts for itself in training.
    """

    network: Any

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> dict[str, Float[Tensor, "batch _"]]:
        """Both outputs."""
        return _head(self.network, self.network.forward_features(images), _head_names(self.network))


class TimmTokens(DenseNetwork):
    """A network of tokens whose forward gives the targets that a data2vec 2.0 network gives, by the same names.

    `tokens` are what enters its head: after the final norm where all tokens go through one. The extra tokens are those
    that timm calls the prefix (CLS, then a distillation token or registers); a layer is a block's output.
    """

    network: Any

    def __init__(self, network: Any, depth: int) -> None:
        super().__init__(network)
        num_extra = _num_extra(network)
        has_cls = num_extra > 0 and getattr(network, "cls_token", None) is not None
        targets = TokenTargets(num_extra, {}, has_cls, pools=False)
        self.name_targets(targets, depth, others=_head_names(network))

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> dict[str, Float[Tensor, "batch ..."]]:
        """Every output of `names`; the blocks' outputs are kept in memory only where one of them needs them."""
        if self.needs_layers:
            tokens, layers = _layers(self.network, images)
        else:
            tokens, layers = self.network.forward_features(images), []
        return self.by_name(tokens, layers) | _head(self.network, tokens, self.names)


def _num_extra(network: Any) -> int:
    return int(getattr(network, "num_prefix_tokens", 0))


def _head_names(network: Any) -> tuple[str, ...]:
    return ("logits", "pooled") if network.num_classes else ("pooled",)


def _head(network: Any, features: Tensor, names: Collection[str]) -> dict[str, Tensor]:
    """Those outputs of `names` that the head gives."""
    kinds = {"logits": False, "pooled": True}
    return {name: network.forward_head(features, pre_logits=kinds[name]) for name in kinds if name in names}


def _layers(network: Any, images: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
    """What enters the head, and every block's output, each with its extra tokens in front."""
    if not hasattr(network, "forward_intermediates"):
        return network.forward_features(images), []
    prefix = {"return_prefix_tokens": True} if _num_extra(network) else {}
    tokens, layers = network.forward_intermediates(images, output_fmt="NLC", **prefix)
    return tokens, [torch.cat(layer[::-1], 1) if isinstance(layer, tuple) else layer for layer in layers]
