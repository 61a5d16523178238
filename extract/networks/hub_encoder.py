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

from extract.networks.state_dict import shown
from extract.networks.weight_sets import common_prefix, without_prefix
from shards.errors import BadInput

SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
MAX_DEPTH = 1024
_ENCODERS = {"pixel_values": "a vision encoder", "input_ids": "a text encoder"}


def load_encoder(
    where: str,
    config: transformers.PretrainedConfig,
    folder: Path | None,
    read_state: Callable[[], dict[str, Tensor]],
    chosen: bool = False,
    main_input: str = "pixel_values",
) -> tuple[transformers.PreTrainedModel, str]:
    """The encoder of `config`, without a pooling head, float32, on the CPU, and the prefix taken off its weights.

    Its weights are those in `folder`, or those that `read_state` gives where there is none, or where they are `chosen`
    among several. A prefix that all names share is taken off where the encoder fits only without it. Raises BadInput,
    which begins with `where`, for a config whose encoder has another `main_input` and for weights that are damaged or
    leave a parameter without a value; weights of other parts (heads, another tower) are passed over.
    """
    depth = getattr(config, "num_hidden_layers", 1)
    if not 1 <= depth <= MAX_DEPTH:
        raise BadInput(f"{where}: its config has {depth} layers, expected 1 to {MAX_DEPTH}; download it again")
    with readable_errors(where):
        with torch.device("meta"):
            blueprint = transformers.AutoModel.from_config(config, trust_remote_code=False, attn_implementation="eager")
        kind = type(blueprint)
    if blueprint.main_input_name != main_input:
        expected, found = _ENCODERS[main_input], f"a {config.model_type} of {blueprint.main_input_name}"
        raise BadInput(f"{where}: expected {expected}, found {found}; give another model")
    if folder is not None:
        _require_weights(where, folder, sum(parameter.numel() for parameter in blueprint.parameters()))
    options: dict[str, Any] = (
        {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind).parameters else {}
    )
    attention = "sdpa" if kind._supports_sdpa else "eager"
    options |= {"config": config, "dtype": torch.float32, "attn_implementation": attention, "local_files_only": True}
    options |= {"ignore_mismatched_sizes": True, "output_loading_info": True}  # refused below, by the report

    def fill(folder: Path | None, state: dict[str, Tensor] | None) -> tuple[Any, list[str], list[str]]:
        with readable_errors(where):
            network, report = kind.from_pretrained(None if folder is None else str(folder), state_dict=state, **options)
        return network, sorted(report["missing_keys"]), [name for name, *_ in report["mismatched_keys"]]

    from_file = folder is not None and not chosen
    network, missing, mis_shaped = fill(folder, None) if from_file else fill(None, read_state())
    if not missing and not mis_shaped:
        return network, ""
    state = read_state()
    parts = common_prefix(state).split(".")[:-1]
    for number in range(0 if from_file else 1, len(parts) + 1):  # 0: a set of weights inside the file
        prefix = "".join(f"{part}." for part in parts[:number])
        without, still_missing, wrong = fill(None, without_prefix(state, prefix))
        if not still_missing and not wrong:
            if prefix:
                print(f"{where}: taking the prefix {prefix} off the names of its tensors", file=sys.stderr)
            return without, prefix
    raise BadInput(
        f"{where}: not the weights its config asks for: missing {shown(missing)}, mis-shaped {shown(mis_shaped)}; "
        f"download it again, or give the weights of that config (its file has {shown(state)})"
    )


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
