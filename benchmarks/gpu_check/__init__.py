"""Everything a machine with a GPU can say about the library, by one command: ``make gpu-check OUT=folder``."""
