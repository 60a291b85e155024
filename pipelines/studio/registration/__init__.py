"""Registration of topologies: which points of their surfaces are the points of the face mesh."""
