"""Fitting: which recipe is meant for what a cache holds."""

from fnmatch import fnmatchcase

from distill.recipe import FACTS, FOLDER, Recipe, load_recipe
from shards.command.settings import names_in
from shards.errors import BadInput
from shards.views import DEFAULT_MODALITY


def recipe_names() -> list[str]:
    """The recipes that come with the project."""
    return names_in(FOLDER)


def pick_recipe(facts: dict[str, str]) -> Recipe:
    """The recipe that fits a cache's facts (FACTS); of several, the one with the closest patterns."""
    facts = {"modality": DEFAULT_MODALITY} | facts
    facts = {name: facts[name] for name in FACTS if name in facts}
    fitting: dict[str, int] = {}
    for name in recipe_names():
        patterns = load_recipe(name).patterns
        # of several target sets a fact joins the names by +
        names = [(name, patterns[key]) for key in patterns for name in facts.get(key, "").split("+")]
        if patterns and all(fnmatchcase(name, pattern) for name, pattern in names):
            fitting[name] = sum(len(pattern.strip("*")) > 0 for pattern in patterns.values())
    best = [name for name, closeness in fitting.items() if closeness == max(fitting.values())]
    if len(best) != 1:
        shown = ", ".join(f"{key} {value}" for key, value in facts.items())
        which = f"recipes {', '.join(best)} fit" if best else "no recipe fits"
        raise BadInput(f"--recipe: {which} a cache with {shown}; name one of {', '.join(best or recipe_names())}")
    return load_recipe(best[0])


def check_modality(recipe: Recipe, holds: str, cache: str) -> None:
    """Raises BadInput where the recipe's student is of another modality than what `cache` holds."""
    pattern = recipe.patterns.get("modality", "*")
    if not fnmatchcase(holds, pattern):
        raise BadInput(
            f"--recipe {recipe.name}: is for views of modality {pattern}, {cache} holds {holds}: leave --recipe out, "
            "name one of that modality, or give a --student of it"
        )
