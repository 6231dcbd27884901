"""The worker's side of delivery: claim entries, keep them in hand, attempt them, record what came of it."""
