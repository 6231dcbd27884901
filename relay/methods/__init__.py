"""The ways a copy can be protected: each renders the untouched original into bytes and a transport floor."""
