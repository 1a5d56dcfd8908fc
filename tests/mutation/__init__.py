"""Mutation tests: small faults are put into the code one at a time, and the tests must notice each of them.

``make mutate`` runs them. ``targets.toml`` says which modules are mutated and which tests judge them, and lists the
faults that change no behaviour. They are not part of ``make test``, because they take far longer.
"""
