"""What ``durably demo`` does: its processes, its receiver, the scenario and how it is judged."""
