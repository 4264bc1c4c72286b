"""Oracles: answers found without nrjax, derived in README.md."""
