"""Judgement of rendered people by the face stack, against faces of real videos."""
