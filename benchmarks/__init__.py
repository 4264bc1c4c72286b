"""Benchmarks: one script for each claim, results as JSON under results/."""
