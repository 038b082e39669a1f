"""`whyrank connect`: an engine's own configuration for a door, printed to be pasted, or applied and undone.

`doors/` has a module for each door, which says what it needs of an engine and makes a plan of requests; `survey.py`
asks the engine who it is and what it has; `printing.py` writes a plan as commands; `applying.py` carries it out.
"""
