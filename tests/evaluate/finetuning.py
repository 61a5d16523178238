"""Settings of a fine-tuning that is over in a second."""

from dataclasses import replace
from typing import Any

from evaluate.config import EvaluateConfig
from evaluate.preset import FinetuneSettings, resolve


def settings(**changes: Any) -> FinetuneSettings:
    """The thesis's, with `changes`."""
    return replace(resolve("finetune", FinetuneSettings, EvaluateConfig(), lambda: "digits"), **changes)
