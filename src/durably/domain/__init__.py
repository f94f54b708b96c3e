"""Values and decisions: what a job is and what becomes of it. No I/O, no await."""
