"""teacher-shards: what a distilled student is worth, one file a task (Hugging Face's package has this name too)."""
