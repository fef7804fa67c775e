"""`minseg bench`: how long ops and networks take, beside PyTorch on the same machine.

Each engine runs in a process of its own, since their thread pools would compete for the cores. The
two take turns, so that other work on the machine slows both alike. `cases` says what is measured,
`engine` runs in the process, `run` lets the engines take turns, `report` prints.
"""
