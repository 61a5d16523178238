"""Teacher: the run's teacher under the same measurement, so that results say how much of it the student keeps."""

from evaluate.evaluation import Evaluation
from evaluate.student import TrainedStudent
from extract.named_teachers import how_to_name
from extract.recompute import load_teacher_of
from extract.teachers import load_teacher
from shards.commit import write_sealed
from shards.reader import TargetSet
from shards.runs import TEACHER


def teacher_beside(evaluation: Evaluation, spec: str) -> Evaluation:
    """The teacher `spec` on the data of the student's evaluation; its results lie in a folder beside the run.

    That folder, teacher-NAME-HASH, serves all runs there: a teacher is fine-tuned once. A teacher that the run learned
    from is loaded as extract did, its weights and input alike.
    """
    folder = next((folder for folder, flags in evaluation.stored.learned_from if flags.get("teacher") == spec), None)
    if folder is None:
        teacher = load_teacher(spec)
    else:
        where = f"give --teacher where it is now; {how_to_name(folder)}"
        teacher = load_teacher_of(TargetSet(folder), spec, None, where)
    student, logits = evaluation.student, teacher.outputs.get("logits", ())
    results = evaluation.run.resolve().parent / f"teacher-{teacher.name}-{teacher.weights_sha256[:8]}"
    document = {"name": teacher.name, "architecture": teacher.architecture}
    write_sealed(results / TEACHER, document | {"weights": {"sha256": teacher.weights_sha256}})
    trained = TrainedStudent(
        teacher.network.to(student.device),
        teacher.inputs,
        logits[0] if len(logits) == 1 else None,
        teacher.class_names,
        student.device,
        student.dtype,
    )
    return Evaluation(evaluation.config, evaluation.run, trained, teacher.weights_sha256, results)
