"""Random problems, valid and broken, against the reference: see ``python -m fuzz --help`` and CONTRIBUTING.md."""
