"""Rendering of studio people: light, cameras, colour, a ray caster on the CPU and a rasteriser in OpenGL."""
