"""The face stack: weights, packs, detection, embedding, mesh, matte, alignment and quality."""
