"""The machine: its devices, its disk and the processes of one run."""
