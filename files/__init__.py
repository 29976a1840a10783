"""Reading files that anyone may have made (`untrusted`, `pickles`), and writing files atomically (`whole`).

Imports nothing of the project, and neither torch nor numpy.
"""
