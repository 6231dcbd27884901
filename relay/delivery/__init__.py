"""Pure decisions of delivery: which method, which fate, when again, and how much at once."""
