"""Plain YAML: a document of plain values from anywhere, as bounded as the file that holds it."""

from typing import Any

from shards.errors import one_line

MOST_VALUES = 100_000
"""In a document, counted as often as aliases name them: a few lines of these could stand for more than memory holds."""


def read_yaml(content: bytes | str) -> Any:
    """What a YAML document says: scalars, lists and mappings; no name in it is looked up or run.

    ValueError, whose message is one line, for what is no YAML, nested too deep, or unfolds to too many values.
    """
    import yaml

    try:
        document = yaml.safe_load(content)
        num_values, waiting = 0, [document]
        while waiting:
            value = waiting.pop()
            num_values += 1
            if num_values > MOST_VALUES:
                raise ValueError(f"its aliases stand for more than {MOST_VALUES:,} values")
            if isinstance(value, dict):
                waiting += [*value, *value.values()]
            elif isinstance(value, list | tuple | set):
                waiting += value
    except Exception as error:  # the library raises nearly any type for a day or a number that is none
        raise ValueError(one_line(error)) from None
    return document
