"""From a source to stored targets: the half of the flow that runs once (see docs/design.md)."""
