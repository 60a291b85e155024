"""People of VALID: textured avatars that are kept for evaluation."""
