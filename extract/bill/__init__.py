"""`--plan` of extract: what an extraction will write, how long it takes here, and what else it might be."""
