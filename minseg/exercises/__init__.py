"""Exercises: a learner writes a layer, and is told what is wrong with it until it is right.

The tasks are in lessons/exercises/, a file each (`task.py` says what is in one). A learner works on
their stubs in a folder of their own (`workspace.py`); `check.py` and `check_kernel.py` run what was
written, stage by stage, and `diagnose.py` recognises typical mistakes.
"""
