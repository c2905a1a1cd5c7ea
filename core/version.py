"""What this release is called, here and nowhere else."""

VERSION = "0.1.0"
