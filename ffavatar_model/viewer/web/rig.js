// Values derived from the head model once: the subdivided points, and the neighbours from which their rotations follow.

/** Each point as up to four vertices with their shares: {parents: Uint32Array(4 P), shares: Float32Array(4 P)}. */
function subdivision(manifest, numbers) {
  const mixes = Array.from({ length: manifest.vertices }, (_, v) => [[v, 1]]);
  for (let level = 0; level < manifest.subdivisions; level++) {
    const edges = numbers(`edges_${level}`);
    for (let i = 0; i < edges.length; i += 2) {
      const sum = new Map();
      for (const end of [edges[i], edges[i + 1]])
        for (const [v, share] of mixes[end]) sum.set(v, (sum.get(v) || 0) + share / 2);
      mixes.push([...sum]);
    }
  }
  const parents = new Uint32Array(4 * mixes.length), shares = new Float32Array(4 * mixes.length);
  mixes.forEach((mix, p) => mix.forEach(([v, share], k) => { parents[4 * p + k] = v; shares[4 * p + k] = share; }));
  return { parents, shares };
}

/** Values of `columns` numbers a vertex, at the points. */
function atPoints({ parents, shares }, values, columns) {
  const n = parents.length / 4, out = new Float32Array(n * columns);
  for (let p = 0; p < n; p++)
    for (let k = 0; k < 4; k++)
      for (let c = 0; c < columns; c++) out[p * columns + c] += shares[4 * p + k] * values[parents[4 * p + k] * columns + c];
  return out;
}

/** Neighbours of each point, one after the other: {ranges: Uint32Array(4 P) start and count, links}. */
function neighbours(edges, n) {
  const ranges = new Uint32Array(4 * n), links = new Uint32Array(edges.length);
  for (const p of edges) ranges[4 * p + 1]++;
  for (let p = 0, sum = 0; p < n; p++) { ranges[4 * p] = sum; sum += ranges[4 * p + 1]; }
  const next = Uint32Array.from({ length: n }, (_, p) => ranges[4 * p]);
  for (let i = 0; i < edges.length; i += 2) {
    links[next[edges[i]]++] = edges[i + 1];
    links[next[edges[i + 1]]++] = edges[i];
  }
  return { ranges, links };
}

/**
 * Per point the symmetric matrix that takes Σ e × δ over its edges to a rotation vector: the inverse of
 * Σ |e|² I - e eᵀ with the damping of ffavatar_model/rig.py. As xx xy xz yy and yz zz.
 */
function turnMatrices(points, { ranges, links }, n) {
  const a = new Float32Array(4 * n), b = new Float32Array(4 * n);
  for (let p = 0; p < n; p++) {
    let xx = 0, xy = 0, xz = 0, yy = 0, yz = 0, zz = 0;
    for (let k = ranges[4 * p]; k < ranges[4 * p] + ranges[4 * p + 1]; k++) {
      const j = links[k];
      const x = points[3 * j] - points[3 * p], y = points[3 * j + 1] - points[3 * p + 1], z = points[3 * j + 2] - points[3 * p + 2];
      xx += y * y + z * z; yy += x * x + z * z; zz += x * x + y * y;
      xy -= x * y; xz -= x * z; yz -= y * z;
    }
    const size = Math.max(xx + yy + zz, 1e-12);
    xx = xx / size + 1e-4; yy = yy / size + 1e-4; zz = zz / size + 1e-4; xy /= size; xz /= size; yz /= size;
    const cxx = yy * zz - yz * yz, cxy = xz * yz - xy * zz, cxz = xy * yz - xz * yy;
    const f = 1 / ((xx * cxx + xy * cxy + xz * cxz) * size);
    a.set([f * cxx, f * cxy, f * cxz, f * (xx * zz - xz * xz)], 4 * p);
    b.set([f * (xy * xz - xx * yz), f * (xx * yy - xy * xy), 0, 0], 4 * p);
  }
  return { a, b };
}
