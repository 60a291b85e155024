"""The capture studio: the open head, rendered by a ray caster, with its truth."""
