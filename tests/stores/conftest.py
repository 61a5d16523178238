"""A bucket on a real S3 server for every test of stores."""

from s3_server import s3, s3_ports

__all__ = ["s3", "s3_ports"]
