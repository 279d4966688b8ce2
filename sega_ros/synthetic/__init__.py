"""Procedural people and their pictures: demo, tests, training and benchmarks use them."""
