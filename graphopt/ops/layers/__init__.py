"""Normalization, attention, recurrence and losses."""
