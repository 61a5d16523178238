"""`python -m shards page`: what the page shows of a cache and its runs, how large it is, and that nothing escapes."""

import io
import json
import tarfile
from pathlib import Path

import caches
import numpy as np
import pytest
import texts
from PIL import Image
from trained_runs import BATCH_SIZE, HOSTILE, STEPS, Parsed, again, write_page

from shards.cache import ListedViewSet
from shards.page.curves import charts_of
from shards.page.sets import anchor_of
from shards.page.sheet import sheet_of
from shards.reader import TargetSet, ViewSet


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    return caches.copied(trained, tmp_path / "runs")


def test_the_page_shows_sets_runs_pictures_and_classes(full: Path, runs: Path) -> None:
    page = write_page(full, "--runs", runs, "--num", "6")
    parsed, viewset = Parsed(page), caches.viewset_of(full)
    names = [viewset.name, *(folder.name for folder in (viewset / "targets").iterdir())]
    assert all(name in parsed.text for name in names)
    summary = json.loads((runs / "first/summary.json").read_text())
    assert f"{summary['best_val_loss']:.4f}" in parsed.text and f"{STEPS * BATCH_SIZE:,}" in parsed.text
    pictures = [image for image in parsed.of("img") if image["alt"].startswith("view of")]
    assert len(pictures) == 6 + 6 and "6 views, spread evenly over 40 samples, and behind them 6 that" in parsed.text
    assert all(image["src"].startswith("data:image/") for image in parsed.of("img"))
    assert len([path for path in parsed.of("path") if "data-run" in path]) == 3  # two losses, agreement
    assert len(parsed.of("meter")) == 12 * 3 * 2  # three classes of two logits' target sets
    assert "nearest digit-" in parsed.text  # of the pooled features


def test_what_a_teacher_gets_wrong_is_marked_where_its_classes_are_those_of_the_labels(full: Path) -> None:
    viewset, exact = ViewSet(caches.viewset_of(full)), TargetSet(caches.targetset_of(full, "float32"))
    sheet = sheet_of(ListedViewSet(viewset.folder), 40)
    assert sheet is not None and len(sheet.views) == sheet.num_compared == 40  # twenty samples of two views
    shares = {}
    for view in range(2):
        rows = softmax(exact.read(view, viewset.usable)["values"].astype(np.float64))
        for sample, label in enumerate(viewset.labels(view, viewset.usable.tolist())):
            right = rows[sample].argmax() == label
            shares[anchor_of("view", viewset.folder.name, viewset.plan.keys[sample], view)] = (
                None if right else rows[sample].max()
            )
    assert 0 < sheet.num_wrong == sum(shares[view.anchor] is not None for view in sheet.views)
    for view in sheet.views:  # the other target set has the same logits, to float16
        assert (view.mistake is None) == (shares[view.anchor] is None)
        assert view.mistake is None or view.mistake == pytest.approx(shares[view.anchor], rel=1e-2)
    own = [f"class {number}" for number in range(10)]
    for name in ("float32", "topk3"):
        caches.reseal(caches.targetset_of(full, name) / "targetset.json", lambda each: each.update(class_names=own))
    page = write_page(full, "--num", "4").partition("<script>")[0]
    assert "data-mistake" not in page and "Wrong first" not in page


def softmax(rows: np.ndarray) -> np.ndarray:
    powers = np.exp(rows - rows.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def test_the_page_needs_no_other_file_and_runs_its_own_script_alone(full: Path, runs: Path) -> None:
    parsed = Parsed(write_page(full, "--runs", runs, "--num", "4"))
    assert not {"link", "iframe", "object", "base", "form"} & {tag for tag, _ in parsed.tags}
    links = [attributes["href"] for attributes in parsed.of("a")]
    anchors = {attributes["id"] for _, attributes in parsed.tags if "id" in attributes}
    assert all(link[0] == "#" and link[1:] in anchors for link in links)
    assert len(anchors) == len([attributes for _, attributes in parsed.tags if "id" in attributes])
    policy = next(each["content"] for each in parsed.of("meta") if "http-equiv" in each)
    assert "default-src 'none'" in policy and "unsafe" not in policy and "script-src 'sha256-" in policy
    assert not [
        name for _, attributes in parsed.tags for name in attributes if name.startswith("on") or name == "style"
    ]


def test_damaged_and_half_written_sets_are_shown_as_such(full: Path) -> None:
    topk, pooled = caches.targetset_of(full, "topk"), caches.targetset_of(full, "pooled")
    (topk / "targetset.json").unlink()
    (topk / "commits/v01-00001.json").unlink()
    (pooled / "targetset.json").write_text("{}")
    floats = caches.targetset_of(full, "float32")
    shard = next(path for path in sorted(floats.glob("*/c/0/*/*")) if path.is_file())
    shard.write_bytes(bytes(len(shard.read_bytes())))
    text = Parsed(write_page(full, "--num", "4")).text
    assert "half written 5 of 6 shards; finish it: python -m extract --config" in text
    assert f"{pooled}/targetset.json" in text and f"{floats}/" in text and text.count("damaged") >= 3
    (caches.viewset_of(full) / "viewset.json").unlink()
    text = Parsed(write_page(full)).text
    assert "half written" in text and "No view set is whole yet" in text


def test_damaged_runs_are_shown_as_such_and_hide_no_other(full: Path, runs: Path) -> None:
    again(runs / "first", "no number", lambda summary: summary.update(steps="many"))
    (again(runs / "first", "no json") / "summary.json").write_text("{")
    (again(runs / "first", "no list") / "run.json").write_text("[]")
    (again(runs / "first", "no log") / "logs/version_0/metrics.csv").write_text("step,train_loss\n1,red\n")
    (again(runs / "first", "half") / "summary.json").unlink()
    text = Parsed(write_page(full, "--runs", runs)).text
    assert "6 runs, 1 half written, 4 damaged" in text
    for reason in ("steps cannot be 'many'", "not JSON", "expected an object, found a list", "cannot be read ("):
        assert reason in text
    assert "half written no summary.json; the same distill command finishes it" in text
    assert "3 of the runs above do not say all that they read" in text
    empty = full.parent / "empty"
    empty.mkdir()
    assert "holds no run" in Parsed(write_page(full, "--runs", empty)).text


@pytest.mark.parametrize(("stored", "spoilt"), [(b'"flip":', b'"flap":'), (b'"flip":', b'"flip";')])
def test_facts_that_make_no_sense_are_told_for_each_view(cache: Path, stored: bytes, spoilt: bytes) -> None:
    viewset, name = caches.viewset_of(cache), "views/v00-00000.tar"
    content = (viewset / name).read_bytes()
    assert stored in content
    (viewset / name).write_bytes(content.replace(stored, spoilt))
    caches.reseal_records(viewset, "viewset.json", name)
    text = Parsed(write_page(cache, "--num", "8")).text
    assert ".json" in text and text.count("damaged") >= 2 and "digit-" in text
    caches.command("shards", "view", viewset, "--output", cache / "sheet.png").refuses(".json")


@pytest.mark.parametrize("lines", ["-5,1\n", "0,0\n", "1,1e308\n2,-1e308\n3,1\n", "1,1e-14\n9,1e14\n", "0,2\n0,2\n"])
def test_any_numbers_can_be_drawn(runs: Path, full: Path, lines: str) -> None:
    for path in (runs / "first/logs").glob("*/metrics.csv"):
        path.write_text(f"step,train_loss\n{lines}")
    paths = Parsed(write_page(full, "--runs", runs, "--num", "1")).of("path")
    assert not [path["d"] for path in paths if "nan" in path["d"] or "inf" in path["d"]]


@pytest.mark.parametrize("values", [(0.99851, 0.99949), (123456.1, 123456.2), (1e-14, 9e14), (2.0, 2.0)])
def test_the_numbers_at_an_axis_differ(values: tuple[float, float]) -> None:
    (chart,) = charts_of([{"val_agreement": (np.array([9.0, 19.0]), np.array(values))}])
    labels = [label for _, label in chart.up]
    assert len(set(labels)) == len(labels) >= 2


def test_what_looks_wrong(full: Path, teacher: Path, tmp_path: Path) -> None:
    """Pictures of one colour, equal ones, and a teacher that says the same of all."""
    (tmp_path / "data/train/a").mkdir(parents=True)
    for number in range(6):
        pixels = bytes((200, 30, 40)) * 256 if number < 3 else np.random.default_rng(number).bytes(768)
        image = Image.fromarray(np.frombuffer(pixels, np.uint8).reshape(16, 16, 3))
        image.save(tmp_path / f"data/train/a/{number}.png")
    flags = ("--teacher", f"run:{teacher}", "--data", f"folder:{tmp_path / 'data'}", "--view", "resize:size=16")
    caches.extract(*flags, "--out", tmp_path / "cache", "--codec", "float32", "--devices", "cpu")
    text = Parsed(write_page(tmp_path / "cache")).text
    assert "3 of 6 views hold one colour or value alone" in text
    assert "3 of 6 samples have the file, label and texts of another" in text and "views are equal" not in text
    assert "3 of 6 rows are equal to another" in text and "a/0, a/1, a/2" in text
    assert "nothing in 40 of 40 samples" in Parsed(write_page(full)).text


def test_a_view_that_is_damaged_and_samples_that_all_are_skipped_cost_no_page(cache: Path, tmp_path: Path) -> None:
    viewset = caches.viewset_of(cache)
    offset, _ = json.loads((viewset / "commits/v00-00000.json").read_text())["members"]["jpg"][0]
    with (viewset / "views/v00-00000.tar").open("r+b") as tar:
        tar.seek(offset)
        tar.write(b"\0")
    assert "1 of 40 views cannot be read" in Parsed(write_page(cache)).text
    keys = list(ViewSet(viewset).plan.keys)
    caches.reseal(viewset / "viewset.json", lambda document: document.update(skipped=keys))
    assert "40 of 40 samples were skipped" in Parsed(write_page(cache)).text


def test_copies_are_found_among_all_samples_though_their_views_are_cropped(tmp_path: Path) -> None:
    """Three copies among 300 images, of which 256 are looked at; a copy of another class is another sample."""
    (tmp_path / "data/train/a").mkdir(parents=True)
    for number in range(300):
        pixels = np.random.default_rng(1 if number in (140, 150) else number).bytes(192)
        image = Image.fromarray(np.frombuffer(pixels, np.uint8).reshape(8, 8, 3))
        image.save(tmp_path / f"data/train/a/{number:03}.png")
    flags = ("--teacher", "none", "--data", f"folder:{tmp_path / 'data'}", "--view", "crop:seed=0,size=8")
    caches.extract(*flags, "--out", tmp_path / "cache", "--shard_size", "100", "--devices", "cpu")
    text = Parsed(write_page(tmp_path / "cache", "--num", "2")).text
    assert "3 of 300 samples have the file, label and texts of another" in text and "a/001, a/140, a/150" in text


def test_masked_texts_whose_records_tell_their_label_alone_are_no_copies(tmp_path: Path) -> None:
    encoder, data = texts.write_encoder(tmp_path / "encoder"), texts.write_corpus(tmp_path / "data")
    flags = ("--data", f"text:{data}", "--view", "blocks:size=16,pack=none,mask=0.3", "--devices", "cpu")
    caches.extract("--teacher", f"hf:{encoder}", "--out", tmp_path / "cache", "--target", "layer_mean", *flags)
    viewset, record = caches.viewset_of(tmp_path / "cache"), "commits/v00-00000.json"  # as an earlier version told it
    caches.reseal(viewset / record, lambda document: document.update(digests=["0" * 16] * len(document["digests"])))
    caches.reseal_records(viewset, "viewset.json", record)
    assert "have the file" not in Parsed(write_page(tmp_path / "cache", "--num", "2")).text


def test_nothing_escapes_from_a_key_a_caption_a_class_or_a_run(teacher: Path, runs: Path, tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "|")  # as a folder may be called
    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16), "red").save(buffer, "PNG")
        for ending, content in (("json", json.dumps({"caption": [HOSTILE]}).encode()), ("png", buffer.getvalue())):
            member = tarfile.TarInfo(f"0.{ending}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    caches.copied(teacher, tmp_path / "teacher")
    classes = [f"{number}{HOSTILE}" for number in range(10)]
    caches.reseal(tmp_path / "teacher/student.json", lambda document: document.update(class_names=classes))
    data = ("--data", f"wds:{tmp_path}:captions=caption", "--view", "pair:size=16")
    flags = ("--teacher", f"run:{tmp_path / 'teacher'}", "--out", tmp_path / "cache", "--codec", "float32")
    caches.extract(*flags, *data, "--devices", "cpu")
    viewset = caches.viewset_of(tmp_path / "cache")
    caches.reseal(viewset / "plan.json", lambda document: document.update(keys=[f"key {HOSTILE}"]))
    caches.reseal_records(viewset, "viewset.json", "plan.json")
    again(runs / "first", name, lambda summary: summary.update(student=HOSTILE, recipe=HOSTILE))
    page = write_page(tmp_path / "cache", "--runs", runs)
    parsed = Parsed(page)
    assert len(parsed.of("script")) == 1 and "alert" not in page.partition("<script>")[2]
    assert not [image for image in parsed.of("img") if not image["src"].startswith("data:")]
    assert not [attribute for _, attributes in parsed.tags for attribute in attributes if attribute.startswith("on")]
    # the key, the caption, three classes, the student and the recipe; the run in its table, its curve and the ledger
    assert parsed.text.count(f"key {HOSTILE}") >= 1 and parsed.text.count(HOSTILE) >= 4
    assert parsed.text.count(HOSTILE[:40]) >= 7  # class names are cut
    assert parsed.text.count(name) >= 3


def test_what_the_page_refuses(full: Path, tmp_path: Path) -> None:
    caches.command("shards", "page", full, "--output", tmp_path / "page.png").refuses("--output", "ending in .html")
    flags = ("--output", tmp_path / "page.html")
    caches.command("shards", "page", full, *flags, "--runs", tmp_path / "nowhere").refuses("--runs", "no such folder")
    caches.command("shards", "page", tmp_path / "nowhere", *flags).refuses("no such folder")
    caches.command("shards", "page", full, *flags, "--teacher_rate", "0").refuses("--teacher_rate", "above 0")
    assert not (tmp_path / "page.html").exists()


def test_the_page_is_bounded_whatever_the_cache_holds(full: Path, runs: Path) -> None:
    """Long texts are cut, and the pictures are as many as asked for: twenty runs add a few kilobytes each."""
    alone = len(write_page(full, "--num", "4"))
    for number in range(19):
        again(runs / "first", f"run {number}", lambda summary: summary.update(student="x" * 100_000))
    assert len(write_page(full, "--num", "4", "--runs", runs)) < alone + 20 * 8_000
