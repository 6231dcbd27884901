"""Mail that comes back, and what is learnt from it: bounces, complaints, reports, suppression."""
