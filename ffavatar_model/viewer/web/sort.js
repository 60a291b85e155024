/** Points in the order of their depth, nearest first, equal depths in their own order: radix sort of the floats' bits. */
class DepthSort {
  constructor(n) {
    this.keys = new Uint32Array(n);
    this.order = new Uint32Array(n);
    this.spare = new Uint32Array(n);
    this.counts = [new Uint32Array(2048), new Uint32Array(2048), new Uint32Array(1024)];
  }

  /** `depths`: the fourth of every four values. */
  run(depths) {
    const n = this.keys.length, keys = this.keys;
    const bits = new Uint32Array(depths.buffer, depths.byteOffset, depths.length);
    const [low, middle, high] = this.counts;
    low.fill(0); middle.fill(0); high.fill(0);
    for (let i = 0; i < n; i++) {
      const raw = bits[4 * i + 3];
      const key = (raw & 0x80000000 ? ~raw : raw | 0x80000000) >>> 0;   // floats as whole numbers of the same order
      keys[i] = key;
      low[key & 2047]++; middle[(key >>> 11) & 2047]++; high[key >>> 22]++;
    }
    for (const count of this.counts) for (let i = 0, sum = 0; i < count.length; i++) [count[i], sum] = [sum, sum + count[i]];
    const { order, spare } = this;
    for (let i = 0; i < n; i++) spare[low[keys[i] & 2047]++] = i;
    for (let i = 0; i < n; i++) { const p = spare[i]; order[middle[(keys[p] >>> 11) & 2047]++] = p; }
    for (let i = 0; i < n; i++) { const p = order[i]; spare[high[keys[p] >>> 22]++] = p; }
    [this.order, this.spare] = [spare, order];
    return this.order;
  }
}
