"""Folders of openly licensed meshes and textures that a user names; the project contains none of them."""
