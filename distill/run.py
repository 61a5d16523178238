"""Run: one training from a cache to an exported student, in a folder that records all about it."""

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from distill import folder
from distill.checkpoints import BEST, Checkpoints, read_best, resumable
from distill.compiling import require_compiler
from distill.config import DistillConfig
from distill.data import CacheData
from distill.holding import Holding, sole
from distill.loggers import open_loggers
from distill.loggers.base import LoggedRun
from distill.loggers.examples import Examples
from distill.memory import within_memory
from distill.module import Distillation
from distill.parts import compares_samples
from distill.recipe import TARGETS, Recipe, as_values
from distill.students import Student, StudentRequest, build_student, student_input
from distill.teacher_agreement import TeacherAgreement
from distill.terms import LABELS, BoundTerm, bind
from distill.trainer import Elapsed, choose_devices, fit, is_first_process, make_trainer, rank
from extract.modalities.base import feed, mismatch, shapes
from extract.networks import export_network, input_document
from shards.class_names import logit_names
from shards.codecs.features import Features
from shards.commit import write_atomically
from shards.errors import BadInput
from shards.last_views import keep_views
from shards.reader import TargetSet
from shards.sealed import read_object


def train(
    config: DistillConfig,
    recipe: Recipe,
    data: CacheData,
    run_dir: Path,
    make: Callable[..., Distillation] = Distillation,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """The run in `run_dir` is finished, resumed from its last checkpoint if it had one; returns its summary.

    `make` puts the module together from its parts: benchmarks train with the teacher in the loop.
    """
    devices = choose_devices(config.devices, recipe.precision)
    checkpoints = Checkpoints(run_dir / "checkpoints", recipe.checkpoint_every)
    # a finished run needs no weights to begin with either, though its checkpoint may have been deleted
    resumes = (run_dir / folder.SUMMARY).exists() or resumable(checkpoints.folder) is not None
    module = build_module(data, recipe, make, resumes)  # refuses what does not fit before anything is written
    elapsed, is_first = Elapsed(), is_first_process()
    # the processes of the other ranks run this function too, within the first one's lock
    with folder.only_run(run_dir) if is_first else contextlib.nullcontext():
        # a cache may have grown since the run began: it goes on with the views it had
        if (former := folder.former_run(run_dir)) is not None:
            data.training = data.training.limited(former.num_views)
        if not (finished := (run_dir / folder.SUMMARY).exists()):
            require_compiler(recipe, devices.of(rank()))
            within_memory(config, module, data, devices)
        if is_first:
            folder.begin(run_dir, config, recipe, data)
            learnt = ", ".join(targetset.folder.name for targetset in data.training.targetsets) or "the labels"
            length = f"{recipe.max_steps} steps" if recipe.max_steps else f"{recipe.epochs} epochs"
            how = f"{length}, batches of {recipe.batch_size}, lr {recipe.lr:g}"
            print(f"distill: {recipe.name}: {recipe.student} from {learnt} of {data.training}: {how}")
            if choice := student_input(recipe.input, data.training.viewset, data.training.targetsets)[1]:
                print(f"distill: {choice}")
            if module.exported.note:
                print(f"distill: {module.exported.note}")
            print(f"distill: validation: {data.describe_validation()}", flush=True)
            if devices.kind == "cpu" and recipe.precision != "float32":
                print(
                    f"distill: {recipe.precision} is slow on most CPUs; --precision float32 may be several times faster"
                )
        if finished:
            return read_object(run_dir / folder.SUMMARY, "give another --run_dir") | {"already_finished": True}
        facts = {"cache": data.training.identity(), "git_revision": folder.git_revision()}
        loggers = open_loggers(config.logger, LoggedRun(run_dir, as_values(recipe) | facts, resumes))
        pictures = [each.picture for each in loggers if each.picture is not None]
        examples = [Examples(data.validation.components, pictures)] if pictures else []
        agreement = TeacherAgreement([each.manifest.target for each in data.training.targetsets])
        watching = [elapsed, checkpoints, agreement, *callbacks, *examples]
        trainer = make_trainer(devices, recipe, run_dir, watching, [each.logger for each in loggers])
        fit(trainer, module, data, resumable(checkpoints.folder))
        for logger in loggers:
            logger.finish()
        summary = summarise(recipe, data, module, trainer.global_step, elapsed.seconds())
        if trainer.is_global_zero:
            if (checkpoints.folder / BEST).exists():
                summary["best_val_loss"], summary["best_step"], state = read_best(checkpoints.folder)
                module.student.load_state_dict(state)
            export(run_dir, module, data)
            write_atomically(run_dir / folder.SUMMARY, (json.dumps(summary, indent=1) + "\n").encode())
        return summary


def build_module(
    data: CacheData, recipe: Recipe, make: Callable[..., Distillation] = Distillation, resumes: bool = False
) -> Distillation:
    """The module for a run over `data`: a seeded student whose outputs are those of the targets, or of the labels.

    Where the run `resumes`, a checkpoint brings the weights, and those that the student began with are not needed.
    """
    holding = data.training
    terms = bind(recipe.losses, holding.targetsets, holding.weights, recipe.reads == TARGETS)
    keep_views(2 * recipe.views_a_batch)  # a batch may span two groups of passes
    labels = recipe.learns_labels
    num_classes = _num_classes(holding, labels, recipe)
    lightning.seed_everything(recipe.seed, verbose=False)
    inputs, _ = student_input(recipe.input, holding.viewset, holding.targetsets)
    student = build_student(
        StudentRequest(recipe.student, recipe.init, list(holding.targetsets), num_classes, inputs, not resumes)
    )
    data.feed(student.inputs)
    holding = data.training
    _check_outputs(student, recipe, holding, terms)
    if recipe.compile:
        student.network.compile()
    steps = recipe.max_steps or recipe.epochs * data.order(recipe.accumulate).num_batches
    parts = {"terms": terms, "holding": holding, "validation": data.validation, "total_steps": steps}
    module = make(student=student, recipe=recipe, **parts)
    if recipe.views_a_batch > 1 and compares_samples(module):
        why = "a loss compares the samples of a batch, and would take another view of a sample for another sample"
        raise BadInput(f"--read views_a_batch={recipe.views_a_batch}: {why}; leave it out")
    return module


def _num_classes(holding: Holding, with_labels: bool, recipe: Recipe) -> int | None:
    """The classes of all logits and labels that are learnt from; None where features are all there is."""
    names = holding.class_names
    logits = [targetset for targetset in holding.targetsets if targetset.manifest.target == "logits"]
    sizes = {targetset.row_shape[0] for targetset in logits}
    if with_labels and not holding.targetsets:
        sizes = {len(names or [])}
    if len(sizes) > 1:
        have = f"the teachers have {sorted(sizes)} classes"
        raise BadInput(f"--targets: {have}; distil from teachers of one set of classes")
    num_classes = sizes.pop() if sizes else len(names) if with_labels and names else None
    if with_labels and (names is None or len(names) != num_classes):
        lacking = "the samples have no labels for the teacher's classes"
        raise BadInput(f"--objective label_weight={recipe.label_weight}: {lacking}; use 0")
    return num_classes


def _check_outputs(student: Student, recipe: Recipe, holding: Holding, terms: list[BoundTerm]) -> None:
    """The student has every output that a term is of, and answers for every target in its shape."""
    if misfit := mismatch(student.inputs, holding.viewset.codec):
        remedy = f"extract views that the student {recipe.student} takes"
        raise BadInput(f"--shards {holding.viewset.folder}: {misfit}; {remedy}")
    with torch.no_grad():
        given = shapes(feed(student.network.eval(), student.inputs, student.inputs.example()))
    student.network.train()
    learnt = [holding.targetsets[term.to] for term in terms if isinstance(term.to, int)]
    targets = {(targetset.manifest.target, _row_shape(student, targetset)) for targetset in learnt}
    if len(targets) > len({name for name, _ in targets}):
        shown = ", ".join(f"{name} {shape}" for name, shape in sorted(targets))
        raise BadInput(f"--targets: {shown}: one student has one shape for each; distil from teachers of one shape")
    has = ", ".join(f"{output} {shape}" for output, shape in given.items())
    for term in terms:
        missing = [name for name in term.of if name not in given]
        if missing and term.to == LABELS:
            raise BadInput(
                f"--objective label_weight={recipe.label_weight}: {recipe.student} has no {missing[0]}; use 0"
            )
        if isinstance(term.to, int):
            target = holding.targetsets[term.to]
            shape = _row_shape(student, target)
            if misfits := [name for name in term.of if given.get(name) != shape]:
                wanted = f"the target of {misfits[0]} is {target.manifest.target} {shape}"
                raise BadInput(f"--student {recipe.student}: gives {has}; {wanted}: give another student")
        elif missing:
            raise BadInput(f"--student {recipe.student}: gives {has}, and no {missing[0]}; give another student")


def _row_shape(student: Student, targetset: TargetSet) -> tuple[int, ...]:
    """The shape of one sample's row as the student meets it, who may read one caption of several."""
    fields, fed = student.inputs.example(), targetset.identity["teacher"]["preprocessing"]
    rows = student.inputs.target(Features(torch.zeros(1, *targetset.row_shape)), fields, fed).vectors
    return tuple(rows.shape[1:])


def summarise(recipe: Recipe, data: CacheData, module: Distillation, steps: int, seconds: float) -> dict[str, Any]:
    """What training cost and what it read; the best step is the last one until validation says otherwise."""
    holding, components = data.training, data.training.components
    return {
        "recipe": recipe.name,
        "student": recipe.student,
        "num_parameters": sum(parameter.numel() for parameter in module.student.parameters()),
        "seconds": round(seconds, 1),
        "steps": steps,
        "teacher_forwards": module.teacher_forwards,
        "cache_bytes": holding.num_bytes,
        "bytes_a_step": module.bytes_a_step(),
        "best_val_loss": None,
        "best_step": steps,
        "cache": sole([str(component.viewset.folder.parent) for component in components]),
        "viewset": sole([component.viewset.folder.name for component in components]),
        "targetsets": sole([[each.folder.name for each in component.targetsets] for component in components]),
        "extracted": holding.extracted(),
        "git_revision": folder.git_revision(),
    }


def _class_names(holding: Holding, num_classes: int | None) -> list[str] | None:
    """Of the student's logits: those of the first teacher with logits, else those of the labels."""
    learnt = [targetset for targetset in holding.targetsets if targetset.manifest.target == "logits"]
    names = logit_names(holding.viewset, learnt[0]) if learnt else holding.class_names
    return names if names is not None and len(names) == num_classes else None


def export(run_dir: Path, module: Distillation, data: CacheData) -> None:
    """The student as safetensors + JSON, loadable without Lightning."""
    student = module.exported
    document = {
        "architecture": student.architecture,
        "arguments": student.arguments,
        "num_classes": student.num_classes,
        **input_document(student.inputs),
        "class_names": _class_names(data.training, student.num_classes),
        "cache": data.training.identity(),
    }
    for name, content in student.inputs.files().items():
        write_atomically(run_dir / name, content)
    export_network(run_dir, module.student, document)
