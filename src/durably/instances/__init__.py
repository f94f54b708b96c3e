"""The instance service: GPU instances created, watched and deleted by jobs."""
