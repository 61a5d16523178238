"""The flags of `python -m extract`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from shards.bill.options import AS_FLAGS
from shards.command.arguments import Aliases, Hidden
from shards.command.ranges import Count, Options, Precision, Range

DESCRIPTION = (
    "Run a frozen teacher once over augmented data and keep what it said. --teacher and --out are enough: the rest "
    "has defaults from the cache, the source or the teacher. The same command resumes after any interruption."
)


_PlainWord = Annotated[
    str,
    Range("a plain word such as train or validation", lambda word: word == Path(word).name and word not in ("", "..")),
]
"""What may stand in a folder's name."""


@dataclass(frozen=True)
class ExtractConfig:
    """What to extract, from what, to where."""

    teacher: str
    """A teacher's name (data2vec2, resnet101, hf:ID, timm:NAME, run:DIR ...), or none to write the views alone. Several
    in one run, each with what to keep of it: timm:resnet50=logits,hf:facebook/dinov2-base=cls; --weights then is
    NAME=VALUE,NAME=VALUE."""
    out: str
    """The cache: a folder, made if missing, or a URL (s3://BUCKET/FOLDER), that may hold other view sets and target
    sets."""
    data: str | None = None
    """The source: digits, folder:PATH, parquet:PATH, hf:ID, wds:PATTERN, imagenet, cifar10, cifar100
    (default: the cache's only source, else imagenet); of texts text:PATH (.txt, .jsonl), text_files:PATH, openwebtext,
    parquet:PATH, hf:ID, wds:PATTERN; of images with captions coco, flickr30k, cc3m, cc12m, or any of those that have
    some. Of several columns, parquet:PATH:image=COLUMN,captions=COLUMN,label=COLUMN (or text=COLUMN) takes those named;
    hf:ID and text:PATH too; group=COLUMN makes one sample of the rows that show one image. Captions are in
    wds:PATTERN:captions=FIELD of .json (else .txt), folder:PATH:captions=FILE; captions= takes none."""
    data_dir: str | None = None
    """A local copy of imagenet, cifar10 or cifar100, as parquet files or in ImageFolder layout; of openwebtext, its
    archives or parquet files; of coco and flickr30k, Karpathy's json beside the images; of cc3m and cc12m, tars."""
    split: _PlainWord = "train"
    """The source's split; every split but train gets one plain resized view."""
    limit: Count | None = None
    """Take the first N samples only."""
    views: Count | None = None
    """Views a sample; a cache grows by views (default: as many as the view set has, else 1, which suits rows a token;
    students of logits gain by 4 or more: docs/views_study.md)."""
    view: str | None = None
    """How a view is made and stored: crop, crop:scale=0.08-1,ratio=0.75-1.3333,flip=0.5,seed=0,size=224,format=jpeg:95
    with any of the six (format: jpeg:QUALITY or png), or resize with size and format (default: the view set's, else
    the source's, else crop for train and resize for other splits, at the teacher's size as jpeg:95); crop with
    store=source keeps each image once (source_size=320) and renders views from it, store=none from the data; of texts
    blocks:size=TOKENS,pack=stream or pack=none, a view a text (default: blocks of 256 tokens), with mask=0.15 hiding
    that share of tokens, others in each view (seed=0)."""
    shard_size: Count | None = None
    """Samples a shard, the unit of work and of commit (default: the view set's, else 512)."""
    batch_size: Count = 64
    """Samples in one teacher forward; a batch never crosses a shard."""
    target: str | None = None
    """What to keep of the teacher's outputs: logits, pooled, layer_mean, tokens, cls, or several as layer_mean,cls
    (default: logits where the teacher gives them, else layer_mean)."""
    codec: str | None = None
    """How targets are stored: float32, float16, int8, int4, or of logits topk:K or sample:K, for all targets or one
    each, by commas (default: sample:12 for mlm_logits, int8 for others with a row a token, else float16)."""
    keep_tokens: Count | None = None
    """Store K tokens of each view, drawn from (seed, key, view), CLS always among them; a vector is stored whole
    (default: all tokens)."""
    precision: Precision = "float32"
    """The teacher's arithmetic: float32, or bfloat16 or float16 by autocast."""
    weights: str | None = None
    """The teacher's weights: a torchvision weight name, a file or a URL (.pt, .pth or .safetensors); hf: and run:
    bring their own. Of a file that holds several sets FILE:key=NAME takes one: by its key in the file, a prefix of
    its tensors' names, or ema (default: the usual one, student of data2vec2; extract says which)."""
    weights_key: str | None = None
    """NAME of --weights FILE:key=NAME, also of weights that are not named."""
    on_error: Literal["fail", "skip"] = "fail"
    """fail, or skip: leave out samples that cannot be read and list their keys in the manifest."""
    devices: str = "auto"
    """auto (all GPUs, else the CPU), cpu, cuda, cuda:N, or N processes that share the shards. They share the cores that
    this machine lets us use, or as many as the environment variable LOKY_MAX_CPU_COUNT says where these are fewer."""
    launch: str = "local"
    """local: this command alone writes here; shared: any number of machines with devices of one type start the same
    command on a bucket, or on a folder that all see, and share the shards; slurm: the same, as tasks of SLURM
    (slurm:tasks=8,time=4:00:00,gpus-per-task=1,dry_run=true prints the script that starts at most 8); ray: this command
    gives the shards to the nodes of a Ray cluster (ray:num_cpus=4,num_gpus=1,accelerator_type=H100)."""
    dry_run: bool = False
    """The dry_run=true of --launch slurm."""
    plan: Options = None
    """Say what this will cost, and do nothing: probe this machine (seconds=60, about), then print bytes, files, hours,
    cost (dollars_per_hour=0.75), bottleneck, memory, alternatives, and when the cache beats the teacher in the loop.
    device_profile=rtx4090, a100, h100 or h200 predicts that card; save=FILE keeps the plan as JSON, OUT.plan.json
    beside what happens then. --device_profile and --dollars_per_hour are flags too, which ask for a plan."""
    max_memory: str | None = None
    """Cap each process, as 24GB: a GPU's memory cannot exceed it, and batches are the largest, --batch_size at most, of
    which three fit, or on a CPU 16 whatever its cores; there it bounds what teacher and batches are counted to take."""


def _as_view(values: dict[str, str]) -> str:
    options = [f"{option}={values[name]}" for name, option in _OPTIONS.items() if name in values]
    kind, _, augmentation = values.get("augment", "").partition(":")
    text = ",".join([*filter(None, [augmentation]), *options])
    return f"{kind}:{text}".removesuffix(":") if kind else text


_OPTIONS = {"image_size": "size", "image_format": "format"}
ALIASES = (Aliases(("augment", *_OPTIONS), "view", _as_view), AS_FLAGS)
"""The flags of images before --view, which every saved configuration of an image cache holds; and options of --plan."""
_KEY, _DRY_RUN = re.compile(r":key=([^,]*)"), re.compile(r"(?<=:)dry_run=([^,]*),?|,dry_run=([^,]*)")


def split_key(weights: str) -> tuple[str | None, str | None]:
    """FILE:key=NAME as FILE and NAME; None for what is not there."""
    key = _KEY.search(weights)
    return _KEY.sub("", weights) or None, key and key[1]


def _split_dry_run(launch: str) -> tuple[str, str | None]:
    dry = _DRY_RUN.search(launch)
    return _DRY_RUN.sub("", launch).removesuffix(":"), dry and (dry[1] or dry[2])


HIDDEN = {"weights_key": Hidden("weights", split_key), "dry_run": Hidden("launch", _split_dry_run)}
"""Flags that --help leaves out, and those that say the same."""
