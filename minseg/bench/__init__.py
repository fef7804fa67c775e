"""`minseg bench`: how long ops and networks take, beside PyTorch on the same machine.

Each engine runs in a process of its own, since their thread pools would fight for the cores, and
the two take turns, so that what else the machine does falls on both. `cases` says what is measured,
`engine` is what runs in the process, `run` lets the engines take turns, `report` prints.
"""
