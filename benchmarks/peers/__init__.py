"""Other queues beside Durably: an adapter each, in their best documented settings, with the same job."""
