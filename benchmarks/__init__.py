"""Benchmarks: one runnable file a figure; each prints ratios measured in one run, with the limit and the goal."""

NAMES = (
    "reading",
    "opening",
    "page",
    "exporting",
    "delivering",
    "rendering",
    "mixing",
    "tokenising",
    "extracting",
    "overlap",
    "distilling",
    "switches",
    "codebooks",
    "teacher_in_the_loop",
    "slow_volume",
    "memory",
    "plan",
    "growing",
    "bucket",
    "sharing",
)
