"""Queue, worker and the background roles. No driver, no SQL, no HTTP."""
