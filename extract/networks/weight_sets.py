"""Checkpoints as trainers write them: which of a file's sets of weights is meant, and under which common prefix.

torchvision's references write {"model", "model_ema"}, timm {"state_dict", "state_dict_ema"}, DINO {"student",
"teacher"}; DistributedDataParallel puts `module.` before every name, torch.compile `_orig_mod.`, Lightning the
attribute's name, and a wrapped wrapper puts both.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from shards.errors import BadInput

_USUAL = ("state_dict", "model", "model_state_dict", "module", "network", "net", "params", "weights")
_EMA = re.compile(r"(.*[._])?ema([._].*)?", re.IGNORECASE)
_NO_WEIGHTS = re.compile(r"(optim|(lr_)?schedul|scaler|rng|amp|random).*")
_NUM_UPDATES = "n_averaged"  # the only tensor of torch.optim.swa_utils.AveragedModel that lies outside `module.`
_MAX_DEPTH = 3


def choose_set(loaded: Any, where: str, key: str | None) -> tuple[dict[str, Tensor], str]:
    """The tensors of one set of weights in `loaded`, and what to tell of the choice (empty where there was none).

    `key` names the set: by its key in the file, by a prefix of its names, or as `ema`. Without a key the usual set is
    taken. Raises BadInput, which begins with `where`, where no set, or none that is certain, is there.
    """
    sets = dict(_sets_in(loaded))
    if not sets:
        raise BadInput(f"{where}: {_what_stands_there(loaded)}; save model.state_dict() alone")
    if key is not None:
        found = _matching(sets, key)
        if len(found) > 1:
            raise BadInput(f"{where}: --weights FILE:key={key}: several fit ({', '.join(found)}); name one whole")
        return sets[found[0]] if found else _with_prefix(sets, where, key), ""
    if len(sets) == 1:
        return next(iter(sets.values())), ""
    others = [name for name in sets if not _EMA.fullmatch(name)]
    name = next((usual for usual in _USUAL if usual in sets), others[0] if len(others) == 1 else None)
    names = ", ".join(sets)
    if name is None:
        raise BadInput(f"{where}: holds several sets of weights ({names}); name one with --weights FILE:key=NAME")
    return sets[name], f"holds the weights {names}: taking {name} (--weights FILE:key=NAME takes another)"


def common_prefix(names: Mapping[str, Any]) -> str:
    """The longest run of whole parts, each with its dot, that every name begins with; a name keeps its last part."""
    parts = [name.split(".")[:-1] for name in names if name != _NUM_UPDATES]
    common = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        common.append(column[0])
    return "".join(f"{part}." for part in common)


def without_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """`state` without `prefix`, and without what counts the updates of an average beside it."""
    if not prefix:
        return dict(state)
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _sets_in(loaded: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dict of nothing but named tensors, by its dotted path in the file; a flat file has one, named ''."""
    if not isinstance(loaded, dict) or not loaded or depth > _MAX_DEPTH:
        return
    if all(isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items()):
        yield path, loaded
        return
    for name, value in loaded.items():
        if isinstance(name, str) and not _NO_WEIGHTS.fullmatch(name):
            yield from _sets_in(value, f"{path}.{name}" if path else name, depth + 1)


def _matching(sets: Mapping[str, Any], key: str) -> list[str]:
    exact = [name for name in sets if name == key] or [name for name in sets if name.startswith(f"{key}.")]
    return exact or ([name for name in sets if _EMA.fullmatch(name)] if key == "ema" else [])


def _with_prefix(sets: Mapping[str, dict[str, Tensor]], where: str, key: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `key` and a dot, in any one set: a module that holds two networks."""
    tops = sorted({name.partition(".")[0] for state in sets.values() for name in state})
    prefixes = {key, *(top for top in tops if key == "ema" and _EMA.fullmatch(top))}
    for prefix in sorted(prefixes):
        inside = [
            {name: rows for name, rows in state.items() if name.startswith(f"{prefix}.")} for state in sets.values()
        ]
        if len(found := [state for state in inside if state]) == 1:
            return found[0]
    names = ", ".join(name for name in sets if name) or f"one set, of the parts {', '.join(tops[:8])}"
    raise BadInput(f"{where}: --weights FILE:key={key}: the file holds {names}; name one of them, or leave key= out")


def _what_stands_there(loaded: Any) -> str:
    if not isinstance(loaded, dict) or not loaded:
        return f"expected a state dict, found {'an empty dict' if loaded == {} else f'a {type(loaded).__name__}'}"
    held = next((loaded[name] for name in _USUAL if isinstance(loaded.get(name), dict)), loaded)
    wrong = (pair for pair in held.items() if not isinstance(pair[0], str) or not isinstance(pair[1], Tensor))
    name, value = next(wrong, (next(iter(loaded)), None))
    return f"expected tensors by name, found {name!r:.80} of type {type(value).__name__}"
