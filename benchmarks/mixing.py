"""Mixing: batches of a mixture of two view sets, against those of one view set of as many samples.

Compared: the training's own loader, an epoch of shuffled batches (images decoded from the tars, logits beside them)
from two caches that train as one, and from a cache that holds all.
Limit: the one cache; each batch of a mixture is read from two places.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import Figure, Report, Sizes, alternate, per_unit, run, settings_here, share, the_device
from benchmarks.steps import cache_batches, open_cache
from benchmarks.synthetic import views_of, write_photos, write_targets
from distill.data import CacheData

GOAL = 0.95
ON_CPU = {"samples": 1024, "batch_size": 64, "epochs": 2, "image_size": 224}
SIZES: Sizes = {"cpu": ON_CPU, "cuda": ON_CPU | {"samples": 4096}, "quick": ON_CPU | {"samples": 128, "epochs": 1}}
WHOLE, MIXTURE = "one cache", "two caches as one"


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """Logits in float16 beside each image."""
    settings = settings_here(SIZES, options)
    num_samples, epochs = settings["samples"], settings["epochs"]

    def cache(name: str, count: int) -> Path:
        data = write_photos(folder / f"photos-{name}", count, 320, 256, options.images)
        views = views_of(folder / name, data, f"size={settings['image_size']}")
        write_targets(views, "logits", "float16")
        return folder / name

    caches = {
        WHOLE: str(cache("whole", num_samples)),
        MIXTURE: ",".join(str(cache(name, num_samples // 2)) for name in ("first", "second")),
    }
    contenders = {}
    for name, shards in caches.items():
        _, data = open_cache(shards, recipe="logits", batch_size=settings["batch_size"], epochs=1)
        contenders[name] = per_unit(_reading(data, epochs), epochs * num_samples)
    seconds = alternate(contenders, options.rounds)
    report = Report("what does it cost to read a mixture?", "samples", settings)
    report.add_rates(seconds)
    ratio = share(seconds[WHOLE], seconds[MIXTURE])
    report.figures.append(Figure(f"{MIXTURE} over {WHOLE} of the same size", "one cache", ratio, GOAL))
    return report


def _reading(data: CacheData, epochs: int) -> Callable[[], None]:
    def work() -> None:
        for _ in range(epochs):
            for _ in cache_batches(data, the_device()):
                pass

    return work


if __name__ == "__main__":
    run(measure, "mixing", with_images=True)
