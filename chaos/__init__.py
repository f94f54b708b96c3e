"""A storm over a real store, and a checker that reads what happened: `make chaos`.

Producers, workers and a nemesis are processes; each writes what it does to one history. At the end the
history is held against what the store says of every job. Read in this order: `history`, `checker`,
`work` (what the jobs do), `roles` (what producers and workers do), `places` (the stores), `proxy`, `nemesis`, `storm`.
"""
