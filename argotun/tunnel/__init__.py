"""A live tunnel: one reader and one sending path around the multiplexer."""
