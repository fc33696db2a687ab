"""What public code computes in the place of the papers' equations: small runnable variants, by method."""
