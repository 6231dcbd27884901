"""What operators use: metrics and health over HTTP, and the control socket behind ``postern queue``."""
