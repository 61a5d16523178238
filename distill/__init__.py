"""Distillation: train students from a cache, by recipe, with Lightning.

In the order of the data: holding.py (which sets), data.py (batches), module.py (decode -> student -> terms), terms.py
and objectives/ (the loss), students/, optimiser.py, run.py and trainer.py (one training), folder.py and checkpoints.py
(what it leaves). recipes/ are YAML files that recipe.py reads.
"""
