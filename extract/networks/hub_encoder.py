"""Loading an encoder of `transformers`: whole or not at all, in silence, and never any code of its repository."""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError  # the error's name only
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from extract.networks.state_dict import shown
from extract.networks.weight_sets import common_prefix, without_prefix
from shards.errors import BadInput

SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
MAX_DEPTH = 1024


def load_encoder(
    where: str,
    config: transformers.PretrainedConfig,
    folder: Path | None,
    read_state: Callable[[], dict[str, Tensor]],
    chosen: bool = False,
) -> tuple[transformers.PreTrainedModel, str]:
    """The encoder of `config`, without a pooling head, float32, on the CPU, and the prefix taken off its weights.

    A text encoder comes with the head of masked language modelling where the weights have it. Its weights are those in
    `folder`, or those that `read_state` gives where there is none, or where they are `chosen` among several. A prefix
    that all names share is taken off where the encoder fits only without it. Raises BadInput, which begins with
    `where`, for a config of no encoder of images or texts and for weights that are damaged or leave a parameter without
    a value; weights of other parts (heads, another tower) are passed over.
    """
    check_depth(where, config)
    blueprint = _blueprint(where, config)
    kinds = _kinds(where, config, blueprint)
    if folder is not None:
        _require_weights(where, folder, sum(parameter.numel() for parameter in blueprint.parameters()))
    options = {"dtype": torch.float32, "local_files_only": True, "ignore_mismatched_sizes": True}  # refused below

    def fill(
        kind: Any, folder: Path | None, state: dict[str, Tensor] | None
    ) -> tuple[transformers.PreTrainedModel, list[str], list[str]]:
        with readable_errors(where):
            how = {"config": config, "output_loading_info": True, **options, **_form(kind)}
            network, report = kind.from_pretrained(None if folder is None else str(folder), state_dict=state, **how)
        return network, sorted(report["missing_keys"]), [name for name, *_ in report["mismatched_keys"]]

    from_file = folder is not None and not chosen
    for kind in kinds:
        network, missing, mis_shaped = fill(kind, folder, None) if from_file else fill(kind, None, read_state())
        if not missing and not mis_shaped:
            return network, ""
    state = read_state()
    parts = common_prefix(state).split(".")[:-1]
    prefixes = ["".join(f"{part}." for part in parts[:number]) for number in range(len(parts) + 1)]
    for prefix in prefixes if from_file else prefixes[1:]:  # none: a set of weights inside the file
        for kind in kinds:
            network, still_missing, wrong = fill(kind, None, without_prefix(state, prefix))
            if not still_missing and not wrong:
                if prefix:
                    print(f"{where}: taking the prefix {prefix} off the names of its tensors", file=sys.stderr)
                return network, prefix
    raise BadInput(
        f"{where}: not the weights its config asks for: missing {shown(missing)}, mis-shaped {shown(mis_shaped)}; "
        f"download it again, or give the weights of that config (its file has {shown(state)})"
    )


def _kinds(where: str, config: transformers.PretrainedConfig, blueprint: transformers.PreTrainedModel) -> list[Any]:
    """The classes of `transformers` to fill with weights, the one with most parts first."""
    found = f"a {config.model_type} of {blueprint.main_input_name}"
    if blueprint.main_input_name == "pixel_values":
        return [type(blueprint)]
    masked = masked_lm_kind(config)
    if getattr(config, "is_encoder_decoder", False):
        found = f"a {config.model_type}, an encoder with a decoder"
    elif getattr(config, "is_decoder", False) or (masked is None and type(config) in MODEL_FOR_CAUSAL_LM_MAPPING):
        found = f"a {config.model_type}, a decoder"
    elif blueprint.main_input_name == "input_ids":
        return [type(blueprint)] if masked is None else [masked, type(blueprint)]
    raise BadInput(
        f"{where}: expected an encoder of images or texts, found {found}; give another (ViT, DINOv2, BERT, RoBERTa)"
    )


def masked_lm_kind(config: transformers.PretrainedConfig) -> Any:
    """The class of an encoder of `config` with the head of masked language modelling; None where there is none."""
    return MODEL_FOR_MASKED_LM_MAPPING.get(type(config), None)


def empty_network(where: str, config: transformers.PretrainedConfig, kind: Any = None) -> transformers.PreTrainedModel:
    """A freshly initialised encoder of `config` (of the class `kind` where it is given) without a pooling head."""
    kind = kind or type(_blueprint(where, config))
    with readable_errors(where):
        network: transformers.PreTrainedModel = kind._from_config(config, **_form(kind))
    return network


def _blueprint(where: str, config: transformers.PretrainedConfig) -> transformers.PreTrainedModel:
    """The encoder of `config` on the meta device, with whatever heads it is made with."""
    with readable_errors(where), torch.device("meta"):
        return transformers.AutoModel.from_config(config, trust_remote_code=False, attn_implementation="eager")


def check_depth(where: str, config: transformers.PretrainedConfig) -> None:
    """BadInput, which begins with `where`, where building the network might never end."""
    depth = getattr(config, "num_hidden_layers", 1)
    if not 1 <= depth <= MAX_DEPTH:
        raise BadInput(f"{where}: its config has {depth} layers, expected 1 to {MAX_DEPTH}; download it again")


def _form(kind: Any) -> dict[str, Any]:
    """How an encoder of the class `kind` is made."""
    poolless = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind).parameters else {}
    return {**poolless, "attn_implementation": "sdpa" if kind._supports_sdpa else "eager"}


def _require_weights(where: str, folder: Path, num_parameters: int) -> None:
    """A small file may declare a network of any size: no memory is taken for one that the weights cannot fill."""
    num_bytes = sum(file.stat().st_size for pattern in ("*.safetensors", "*.bin") for file in folder.glob(pattern))
    if not num_bytes:
        raise BadInput(f"{where}: {folder} holds no {SAFETENSORS} and no {PICKLE}; download it again")
    if num_parameters > num_bytes:
        raise BadInput(
            f"{where}: its config asks for {num_parameters:,} parameters, its weights have {num_bytes:,} bytes; "
            "download it again"
        )


@contextmanager
def readable_errors(where: str) -> Iterator[None]:
    """`transformers` is silent, and what it raises of a model that it cannot load becomes one line."""
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()
    try:
        yield
    except UnpicklingError as error:
        raise BadInput(
            f"{where}: its pickle is damaged or names code, none of which was run; give weights in safetensors"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # nearly any type, for a folder that it does not understand
        reason = str(error).strip().partition("\n")[0]
        raise BadInput(
            f"{where}: `transformers` cannot load it ({type(error).__name__}: {reason:.200}); download it again, or "
            "give another model"
        ) from error
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()
