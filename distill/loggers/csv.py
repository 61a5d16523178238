"""RUN/logs/version_N/metrics.csv, a folder an attempt: what `python -m shards page` draws."""

from lightning.pytorch.loggers import CSVLogger

from distill.loggers.base import LoggedRun, RunLogger


def open_logger(run: LoggedRun) -> RunLogger:
    """Lightning's own."""
    return RunLogger(CSVLogger(run.folder, name="logs"))
