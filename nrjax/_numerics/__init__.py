"""Numerical helpers without physics. Private: names and places may change."""
