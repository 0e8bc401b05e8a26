"""Speed and memory, one file per question."""
