"""Many steps as one."""
