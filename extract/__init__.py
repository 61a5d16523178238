"""From a source to stored targets: the half of the flow that runs once (see docs/design.md).

In the order of the data: sources/ (raw samples), modalities/ (views of them), views.py (a shard of views), teachers/
and networks/ (outputs by name), targets.py (what is kept), calibrate.py (statistics), pipeline.py (the loop),
store.py (the files). plan.py says what a command line means (plan_views.py, plan_targets.py); disk.py what it will
cost; launch/ and processes.py run it on several devices and machines, which sharing.py lets share one cache;
same_source.py and recompute.py compare what is stored with source and teacher.
"""
