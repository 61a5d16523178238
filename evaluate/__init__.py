"""teacher-shards: what a distilled student is worth, one file a task (Hugging Face's package has this name too).

measure.py (one run through the tasks), tasks/, evaluation.py (what every task is given), views.py (labelled views),
training.py and fine_tuning.py, presets/ (hyperparameters), report.py and runs.py (tables over runs).
"""
