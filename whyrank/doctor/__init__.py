"""`whyrank doctor`: looks at a whole installation as it runs, and says what is wrong and what to do about it.

`checks/` has a module for each part, of small functions in one registry (`registry.py`); `context.py` is what they ask,
each thing once; `report.py` shows what they found. A new check is a function with `@check` in the module of its part.
"""
