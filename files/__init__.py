"""Files at the edges: reading what other people made (`untrusted`), writing so that nothing is half-written (`whole`).

Imports nothing of the project, and neither torch nor numpy.
"""
