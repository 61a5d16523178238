"""`--launch local`: this command alone works on the cache, in a process for each of --devices."""

from collections.abc import Mapping

from extract.launch import Launcher, refuse_options


def make(options: Mapping[str, str]) -> Launcher:
    """The launcher of a single machine."""
    refuse_options("local", options)
    return Launcher()
