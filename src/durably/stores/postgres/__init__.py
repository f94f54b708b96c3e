"""The store on PostgreSQL: the same jobs for processes on many machines."""
