"""What is trained: data sets, models, and the loop that trains one seed of a workload.

Importing this package imports no torch; its parts do, where they need it.
"""
