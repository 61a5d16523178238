"""The cache on disk: what it promises, how it is written, verified and read back (see docs/design.md)."""
