"""`--check`: walks what server or agent would do with these options, and says what became of each step."""
