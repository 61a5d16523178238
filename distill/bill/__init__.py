"""`--plan` of distill: what a training takes here, and what it would take with its teacher in the loop."""
