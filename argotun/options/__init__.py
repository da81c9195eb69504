"""Options: one table, read from flags, environment and a file into the dataclasses of `argotun.config`.

table.py      name, modes, kind, environment names and help of each option
sources.py    flags, environment and YAML file → the text of each option and where it came from
checks.py     what must hold between options
load.py       all of the above in order → a validated config
reference.py  docs/options.md, written from the table
"""
