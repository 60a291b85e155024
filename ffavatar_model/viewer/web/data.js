// Reader of the block that ffavatar_model/viewer/packing.py writes.

/** The manifest, and a function that gives an array of it by name as Float32Array or Uint32Array. */
async function unpack(text) {
  const binary = atob(text.trim());
  const packed = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) packed[i] = binary.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const end = bytes.indexOf(10);
  const manifest = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
  const numbers = (name) => {
    const entry = manifest.arrays[name], n = entry.shape.reduce((a, b) => a * b, 1);
    const values = new Uint32Array(n), start = end + 1 + entry.offset;
    for (let plane = 0; plane < entry.bytes; plane++) {
      const from = start + plane * n, shift = 8 * plane;
      for (let i = 0; i < n; i++) values[i] |= bytes[from + i] << shift;
    }
    return values;
  };
  const floats = (name) => {
    const { shape, low, step } = manifest.arrays[name], steps = numbers(name), columns = shape[shape.length - 1];
    return Float32Array.from(steps, (q, i) => low[i % columns] + step[i % columns] * q);
  };
  return { manifest, numbers, floats };
}
