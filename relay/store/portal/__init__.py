"""The portal's store: deposits, accounts and what it hands out, in a file or schema apart from the queue's."""
