import json
import shutil

import pytest
import rounding
import torch
import torch.nn.functional as F
from digits_bench import Bench, digits, write_student
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate.__main__ import main
from evaluate.tasks.fidelity import compare_logits
from extract.networks import load_exported
from shards.codecs.distribution import Distribution
from shards.codecs.topk import make
from shards.errors import BadInput, Incomplete

WRITTEN = 5e-7
"""Six decimal places are put into evaluation.json."""


def fidelity(run, *flags: str) -> dict:
    main(["--run", str(run), "--task", "fidelity", *flags])
    return json.loads((run / "evaluation.json").read_text())["fidelity"]


def top_k(logits: torch.Tensor, k: int) -> Distribution:
    """The exact top-k form, in float64, without the codec's rounding."""
    log_p = logits.double().log_softmax(1)
    kept, classes = log_p.topk(k, dim=1)
    remaining = log_p.scatter(1, classes, -torch.inf).logsumexp(1)
    return Distribution(classes, kept.float(), remaining.float(), logits.shape[1])


def test_the_teacher_is_faithful_to_itself(bench: Bench) -> None:
    run = bench.run(exported=bench.teacher)
    record = fidelity(run, "--targetset", "logits-float32")
    assert (record["agreement"], record["num_samples"]) == (1.0, 359)
    with torch.no_grad():
        error = WRITTEN + rounding.of_divergence(load_exported(bench.teacher)[0](digits("validation")[0])["logits"])
    assert record["kl"] == pytest.approx(0, abs=error) and record["cosine"] == pytest.approx(1, abs=1e-5)
    pooled = fidelity(run, "--targetset", "pooled")
    assert "agreement" not in pooled and pooled["num_samples"] == 359
    for metric in ("cosine", "cosine_worst_percentile", "cka"):
        assert pooled[metric] == pytest.approx(1, abs=1e-5)


def test_stored_teacher_gives_what_a_live_one_gives(bench: Bench) -> None:
    run = bench.run()
    record = fidelity(run, "--targetset", "logits-float32", "--batch_size", "50")
    images, _ = digits("validation")
    with torch.no_grad():
        teacher, student = (load_exported(folder)[0](images)["logits"] for folder in (bench.teacher, run))
    kl = F.kl_div(student.log_softmax(1), teacher.log_softmax(1), log_target=True, reduction="batchmean")
    error = WRITTEN + rounding.of_divergence(teacher, student)
    assert record["kl"] == pytest.approx(kl.item(), abs=error) and kl > 100 * error
    assert record["agreement"] == pytest.approx(
        (teacher.argmax(1) == student.argmax(1)).double().mean().item(), abs=1e-6
    )
    assert record["cosine"] == pytest.approx(torch.cosine_similarity(teacher, student).mean().item(), abs=1e-5)
    coarse = fidelity(run, "--targetset", "topk3")
    assert coarse["agreement"] == pytest.approx(record["agreement"], abs=2 / 359)
    assert 0 < coarse["kl"] <= record["kl"] + 1e-3 and "cosine" not in coarse
    assert coarse["targetset"].startswith("run-teacher-logits-topk3-")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 12), st.floats(0.1, 30.0))
def test_topk_divergence_grows_with_k_up_to_the_full_one(seed: int, num_classes: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    teacher, student = (torch.randn(4, num_classes, generator=generator) * scale for _ in range(2))
    full = compare_logits(teacher, student)["kl"]
    reference = F.kl_div(student.log_softmax(1), teacher.log_softmax(1), log_target=True, reduction="none").sum(1)
    error = rounding.of_divergence(teacher, student)
    torch.testing.assert_close(full, reference, rtol=0, atol=error)
    before = torch.zeros(4)
    for k in range(1, num_classes):
        coarse = compare_logits(top_k(teacher, k), student)["kl"]
        assert (coarse >= before - error).all() and (coarse <= full + error).all()
        before = coarse
    torch.testing.assert_close(before, full, rtol=0, atol=error)  # k = classes - 1 loses nothing


def test_the_codecs_rounding_stays_small() -> None:
    teacher, student = torch.randn(64, 20), torch.randn(64, 20)
    codec = make("topk", "5", (20,))
    stored = compare_logits(codec.decode(codec.encode(teacher)), student)
    torch.testing.assert_close(stored["kl"], compare_logits(top_k(teacher, 5), student)["kl"], rtol=0.01, atol=0.005)
    assert torch.equal(stored["agreement"], compare_logits(teacher, student)["agreement"])


def test_what_the_run_learned_from_is_meant_and_a_choice_that_is_left_is_the_users(bench: Bench) -> None:
    run = bench.run()
    assert fidelity(run)["targetset"].startswith("run-teacher-logits-float32")  # as it learned, on another split
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "targetsets": []}))
    with pytest.raises(BadInput, match=r"several target sets fit; .*: run-teacher-logits-float32-.*topk3"):
        fidelity(run)
    with pytest.raises(BadInput, match=r"--targetset resnet: .* holds run-teacher"):
        fidelity(run, "--targetset", "resnet")
    assert fidelity(run, "--split", "train")["targetset"].startswith("run-teacher-logits-float32")
    (topk,) = bench.cache.glob("digits-validation-*/targets/*topk3*")
    assert fidelity(run, "--shards", str(topk))["targetset"] == topk.name


def test_other_shapes_are_refused(bench: Bench) -> None:
    with pytest.raises(BadInput, match=r"the teacher's pooled are \(24,\) a sample, the student's \(16,\)"):
        fidelity(bench.run(), "--targetset", "pooled")
    write_student(bench.scratch / "three", width=2, epochs=0, num_classes=3, names=None)
    with pytest.raises(BadInput, match=r"logits are \(10,\) a sample, the student's \(3,\)"):
        fidelity(bench.run("three", bench.scratch / "three"), "--targetset", "topk")


def test_missing_and_half_written_caches_are_told(bench: Bench) -> None:
    run = bench.run()
    with pytest.raises(BadInput, match=r"no split 'other', only train, validation.*python -m extract"):
        fidelity(run, "--split", "other")
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "cache": "/nowhere"}))
    for flags in (["--task", "fidelity"], []):
        with pytest.raises(BadInput, match=r"was trained on /nowhere/.*, which is not here; give --data, or --shards"):
            main(["--run", str(run), *flags])
    assert fidelity(run, "--shards", str(bench.cache), "--targetset", "topk")["num_samples"] == 359
    copy = bench.scratch / "cache"
    shutil.copytree(bench.cache, copy)
    next(copy.glob("digits-validation-*/targets/*topk*/targetset.json")).unlink()
    with pytest.raises(Incomplete, match="half written"):
        fidelity(run, "--shards", str(copy), "--targetset", "topk")
    assert "float32" in fidelity(run, "--shards", str(copy))["targetset"]  # the only whole one of logits
    next(copy.glob("digits-validation-*/viewset.json")).unlink()
    with pytest.raises(Incomplete, match="half written"):
        fidelity(run, "--shards", str(copy))
