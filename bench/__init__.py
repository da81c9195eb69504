"""The benchmark: argotun, nginx alone and (where given) the seed system under the same load, in one table.

`python -m bench` runs it; docs/benchmark.md says how to read what it prints. Nothing here is part of
the argotun that is installed, and nothing here is a test: it measures and judges, and never fails because
a figure is low.
"""
