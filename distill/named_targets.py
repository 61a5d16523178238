"""Named targets: the target sets of a recipe whose terms name several, one a name."""

import shlex

from distill.qualified import EVERY_TARGET, is_to
from distill.recipe import Recipe
from distill.terms import LABELS
from extract.networks.embeddings import teacher_of
from shards.cache import ListedTargetSet, ListedViewSet, only
from shards.errors import BadInput
from shards.listing import saved_flags
from shards.mirror import out_of


def named_targets(recipe: Recipe) -> list[str]:
    """The targets that the terms of `recipe` name; none where every target will do."""
    return list(dict.fromkeys(term.to for term in recipe.losses if term.to not in (LABELS, EVERY_TARGET, None)))


def of_recipe(viewset: ListedViewSet, recipe: Recipe) -> list[ListedTargetSet]:
    """The target set of each target that `recipe` names.

    BadInput where there is none, which says the command that extracts it, or where there are several.
    """
    names = named_targets(recipe)
    whole = [each for each in viewset.targetsets if each.whole]
    found = {name: [each for each in whole if is_to(name, each.manifest)] for name in names}
    if missing := [name for name, targetsets in found.items() if not targetsets]:
        known = {each.manifest.target: str(saved_flags(each.folder).get("teacher")) for each in whole}
        request = {name: value for name, value in viewset.request.items() if value is not None}
        flags = [
            {
                "teacher": teacher_of(name, known),
                "target": name.rpartition("/")[2],
                "out": out_of(viewset.folder.parent),
                **request,
            }
            for name in missing
        ]
        words = [[word for name, value in each.items() for word in (f"--{name}", str(value))] for each in flags]
        commands = [f"python -m extract {shlex.join(each)}" for each in words]
        holds = ", ".join(str(each) for each in whole) or "no target set"
        raise BadInput(
            f"--recipe {recipe.name}: learns {' and '.join(names)}, {viewset} holds {holds}: "
            f"{' and '.join(commands)} {'adds it' if len(missing) == 1 else 'add them'}"
        )
    return [only("--targets", f"target sets of {name}", each, "name one of each") for name, each in found.items()]
