"""Crash truth: Durably under faults, and a checker that reads what happened.

A storm over a real store: producers, workers and a nemesis are processes; each writes what it does
to one history, and at the end that is held against what the store says of every job. Read in this
order: `history`, `checker`, `work` (what the jobs do), `roles` (what producers and workers do),
`places` (the stores), `proxy`, `nemesis`, `storm`. Besides it: `simulate` (the engine in a simulated
world), `provisioning` (GPUs under fire), `gauntlet` (known bugs put in, and caught), `evidence` (all
of these at length, written down).
"""
