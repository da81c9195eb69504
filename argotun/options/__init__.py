"""Options: one table, read from flags, environment and a file into the dataclasses of `argotun.config`.

`load` does all of it in order; help, completion, the man page and docs/options.md come from the same table.
"""
