"""Classification heads that report what entered them, so that a library's own forward returns both outputs."""

from jaxtyping import Float
from torch import Tensor, nn


class LinearHead(nn.Linear):
    """A linear layer that returns {"logits": its output, "pooled": its input}."""

    def forward(self, pooled: Float[Tensor, "batch width"]) -> dict[str, Tensor]:  # type: ignore[override]
        """Both outputs of the network that ends here."""
        return {"logits": super().forward(pooled), "pooled": pooled}


class SequentialHead(nn.Sequential):
    """A stack of layers that returns {"logits": its output, "pooled": its input}."""

    def forward(self, pooled: Float[Tensor, "batch width"]) -> dict[str, Tensor]:
        """Both outputs of the network that ends here."""
        return {"logits": super().forward(pooled), "pooled": pooled}


def split_head(network: nn.Module, name: str) -> None:
    """The child `name` of `network`, its last step, reports its input; parameters and their names stay as they were."""
    head = getattr(network, name)
    if isinstance(head, nn.Linear):
        split = LinearHead(head.in_features, head.out_features, device="meta")
        split.weight, split.bias = head.weight, head.bias
        setattr(network, name, split)
    else:
        setattr(network, name, SequentialHead(*head))
