"""Distillation: train students from a cache, by recipe, with Lightning."""
