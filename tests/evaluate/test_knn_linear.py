"""knn and linear, against scikit-learn."""

import json

import numpy as np
import pytest
import torch
from digits_bench import Bench, digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from evaluate.__main__ import main
from evaluate.config import EvaluateConfig
from evaluate.preset import OptimiserSettings, resolve
from evaluate.tasks import knn
from evaluate.tasks.linear import fit, make_head, share_correct
from extract.networks import export_network, load_exported
from shards.errors import BadInput


def pooled(bench: Bench, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = digits(split)
    with torch.no_grad():
        return load_exported(bench.student)[0](images)["pooled"], labels


def by_sklearn(bench: Bench, k: int) -> np.ndarray:
    bank, labels = pooled(bench, "train")

    def weights(distances: np.ndarray) -> np.ndarray:
        return np.exp((1 - distances) / 0.07)

    model = KNeighborsClassifier(k, weights=weights, metric="cosine", algorithm="brute")
    return model.fit(bank.numpy(), labels.numpy()).predict(pooled(bench, "validation")[0].numpy())


def test_knn_is_scikit_learns(bench: Bench) -> None:
    run = bench.run()
    main(["--run", str(run), "--task", "knn", "--k", "7"])
    record = json.loads((run / "evaluation.json").read_text())["knn"]
    truth = pooled(bench, "validation")[1].numpy()
    assert record["top1"] == pytest.approx((by_sklearn(bench, 7) == truth).mean(), abs=2 / 359)
    assert (record["k"], record["num_samples"], record["train_split"]) == (7, 359, "train")
    assert record["train_data"] == record["data"] == "digits"


@pytest.mark.parametrize(("bank_rows", "query_rows"), [(1, 1), (7, 5), (50, 64), (1000, 3)])
def test_nearest_is_brute_force_for_any_blocks(
    bank_rows: int, query_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knn, "_BANK_ROWS", bank_rows)
    monkeypatch.setattr(knn, "_QUERY_ROWS", query_rows)
    generator = torch.Generator().manual_seed(0)
    queries, bank = torch.randn(23, 6, generator=generator), torch.randn(50, 6, generator=generator)
    cosines, rows = knn.nearest(queries, bank, 9)
    for query in range(len(queries)):
        by_hand = torch.cosine_similarity(queries[query : query + 1], bank)
        expected = by_hand.argsort(descending=True)[:9]
        assert rows[query].tolist() == expected.tolist()
        torch.testing.assert_close(cosines[query], by_hand[expected])


def test_near_neighbours_outvote_many_far_ones() -> None:
    cosines = torch.tensor([[0.9, 0.7, 0.7, 0.7]])
    # exp(0.9 / 0.07) is 17 times exp(0.7 / 0.07): one at 0.9 outvotes three at 0.7
    assert knn.vote(cosines, torch.tensor([[2, 1, 1, 1]]), 4, 0.07).tolist() == [2]
    assert knn.vote(cosines, torch.tensor([[2, 1, 1, 1]]).roll(1), 4, 0.07).tolist() == [1]


def test_votes_at_a_low_temperature_stay_in_the_range_of_floats() -> None:
    # exp(0.95 / 0.01) is 2e41, above float32's largest number, 3.4e38: two classes of infinite weight would be a tie
    cosines, labels = torch.tensor([[0.95, 0.99]]), torch.tensor([[0, 1]])
    assert knn.vote(cosines, labels, 2, 0.01).tolist() == [1]


def test_a_probe_whose_loss_is_not_finite_is_refused(bench: Bench) -> None:
    run = bench.run()
    with pytest.raises(BadInput, match=r"--task linear: the loss of the last step is nan; give a lower --lr"):
        main(["--run", str(run), "--task", "linear", "--epochs", "2", "--lr", "1e30"])
    assert not (run / "evaluation.json").exists()


@pytest.mark.parametrize("task", ["accuracy", "knn", "linear"])
def test_outputs_that_are_not_finite_are_refused(bench: Bench, task: str) -> None:
    run = bench.run()
    network, document = load_exported(run)
    with torch.no_grad():
        next(network.parameters()).mul_(torch.inf)
    overflowing = bench.scratch / "overflowing"
    fields = ("architecture", "arguments", "num_classes", "class_names", "image_size", "mean", "std")
    export_network(overflowing, network, {name: document[name] for name in fields})
    run = bench.run("overflows", overflowing)
    name = "logits" if task == "accuracy" else "pooled"
    with pytest.raises(BadInput, match=rf"the network's {name} holds NaN or infinity; give --precision float32"):
        main(["--run", str(run), "--task", task, "--limit", "50"])
    assert not (run / "evaluation.json").exists()


def test_nearest_of_the_bank_itself_is_itself(bench: Bench) -> None:
    run = bench.run()
    main(["--run", str(run), "--task", "knn", "--k", "1", "--split", "train", "--limit", "200"])
    assert json.loads((run / "evaluation.json").read_text())["knn"]["top1"] == 1.0


def test_more_neighbours_than_samples_are_refused(bench: Bench) -> None:
    with pytest.raises(BadInput, match=r"--preset knn:k=20: train has only 10 samples"):
        main(["--run", str(bench.run()), "--task", "knn", "--limit", "10"])


@pytest.mark.slow
def test_probe_is_as_good_as_logistic_regression(bench: Bench) -> None:
    run = bench.run()
    main(["--run", str(run), "--task", "linear", "--epochs", "60", "--lr", "0.03"])
    record = json.loads((run / "evaluation.json").read_text())["linear"]
    (train, labels), (test, truth) = pooled(bench, "train"), pooled(bench, "validation")
    scaler = StandardScaler().fit(train.numpy())
    reference = LogisticRegression(max_iter=2000).fit(scaler.transform(train.numpy()), labels.numpy())
    assert abs(record["top1"] - reference.score(scaler.transform(test.numpy()), truth.numpy())) < 0.03
    assert abs(record["train_top1"] - reference.score(scaler.transform(train.numpy()), labels.numpy())) < 0.03


def test_probe_is_fixed_by_its_seed_and_free_of_each_samples_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(700, 8, generator=generator), torch.randint(0, 4, (700,), generator=generator)
    settings = resolve("linear", OptimiserSettings, EvaluateConfig(epochs=3, lr=0.01), str)

    def trained(features: torch.Tensor, seed: int) -> torch.nn.Sequential:
        torch.manual_seed(0)
        probe = make_head(8, 4)
        fit(probe, features, labels, settings, seed)
        return probe

    probe = trained(features, 0)
    assert torch.equal(probe[1].weight, trained(features, 0)[1].weight)
    assert not torch.equal(probe[1].weight, trained(features, 1)[1].weight)
    assert not torch.equal(probe[0].weight, torch.ones(8))  # the LayerNorm learns too
    scaled = features * torch.rand(700, 1, generator=generator).add(0.5) * 1000 + 5
    assert abs(share_correct(probe, features, labels) - share_correct(trained(scaled, 0), scaled, labels)) < 0.01
