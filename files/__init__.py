"""Reading files that other people made (`untrusted`, `pickles`), and writing files atomically (`whole`).

Imports nothing of the project, and neither torch nor numpy.
"""
