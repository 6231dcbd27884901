"""Intake: listeners, who may send, limits, and acceptance into the queue."""
