"""The HTTP service: instances, jobs, events, health and figures over JSON."""
