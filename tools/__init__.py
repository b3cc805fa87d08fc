"""What developers run: `python -m tools.sync`, and so on; the Makefile has a command for each."""
