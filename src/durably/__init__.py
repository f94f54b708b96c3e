"""Durably."""
