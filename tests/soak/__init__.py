"""Long runs of the whole product under faults; only with `scripts/test --all`."""
