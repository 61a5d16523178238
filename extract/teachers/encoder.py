"""Loading a vision encoder of `transformers`: whole or not at all, in silence, and never any code of its repository."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError  # the error's name only

import torch
import transformers
from torch import Tensor

from extract.networks.state_dict import shown
from shards.errors import BadInput

SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
MAX_DEPTH = 1024


def load_encoder(
    where: str, config: transformers.PretrainedConfig, folder: Path | None, state: dict[str, Tensor] | None = None
) -> transformers.PreTrainedModel:
    """The encoder of `config`, without a pooling head, with the weights in `folder` or in `state`; float32, on the CPU.

    Raises BadInput, which begins with `where`, for a config of no vision encoder and for weights that are damaged or
    leave a parameter without a value; weights of other parts (heads, a text tower) are passed over.
    """
    depth = getattr(config, "num_hidden_layers", 1)
    if not 1 <= depth <= MAX_DEPTH:
        raise BadInput(f"{where}: its config has {depth} layers, expected 1 to {MAX_DEPTH}; download it again")
    with readable_errors(where):
        with torch.device("meta"):
            blueprint = transformers.AutoModel.from_config(config, trust_remote_code=False, attn_implementation="eager")
        kind = type(blueprint)
    if blueprint.main_input_name != "pixel_values":
        raise BadInput(
            f"{where}: expected a vision encoder, found a {config.model_type} of {blueprint.main_input_name}"
        )
    if folder is not None:
        _require_weights(where, folder, sum(parameter.numel() for parameter in blueprint.parameters()))
    options = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind).parameters else {}
    attention = "sdpa" if kind._supports_sdpa else "eager"
    with readable_errors(where):
        network, report = kind.from_pretrained(
            None if folder is None else str(folder),
            config=config,
            state_dict=state,
            dtype=torch.float32,
            attn_implementation=attention,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # they are in the report, and the network is refused
            output_loading_info=True,
            **options,
        )
    missing, mis_shaped = report["missing_keys"], [name for name, *_ in report["mismatched_keys"]]
    if missing or mis_shaped:
        raise BadInput(
            f"{where}: not the weights its config asks for: missing {shown(missing)}, mis-shaped {shown(mis_shaped)}; "
            "download it again"
        )
    return network


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
