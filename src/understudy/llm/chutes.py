"""Chutes."""
