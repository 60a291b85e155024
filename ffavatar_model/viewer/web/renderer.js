// WebGL2: shape → subdivide → pose into float textures, a depth sort on the CPU, splats front to back, background.

const POINT_WIDTH = 256, TABLE_WIDTH = 2048;

class Renderer {
  /** Throws an Error that names what the browser lacks. */
  constructor(canvas, { manifest, numbers, floats }) {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false, powerPreference: "high-performance" });
    if (!gl) throw new Error("This page needs WebGL2, which this browser does not offer.");
    if (!gl.getExtension("EXT_color_buffer_float")) throw new Error("This page needs float render targets (EXT_color_buffer_float).");
    this.gl = gl;
    this.canvas = canvas;
    this.manifest = manifest;
    const m = manifest, all = m.arrays.directions.shape[0] + m.arrays.correctives.shape[0];
    this.constants = {
      POINT_WIDTH, TABLE_WIDTH, COEFFICIENTS: Math.max(1, Math.ceil(all / 4)), NEAR_PLANE: real(m.near_plane),
      EPS_2D: real(m.eps_2d), ALPHA_MIN: real(m.alpha_min), ALPHA_MAX: real(m.alpha_max), MAX_EXTENT: real(m.max_extent),
    };
    this.programs = {
      shape: this.program("square.vert", "shape.frag"), subdivide: this.program("square.vert", "subdivide.frag"),
      pose: this.program("square.vert", "pose.frag"), splat: this.program("splat.vert", "splat.frag"),
      compose: this.program("square.vert", "compose.frag"),
    };
    this.prepare(numbers, floats, all);
    this.sort = new DepthSort(m.points);
    this.depths = new Float32Array(4 * POINT_WIDTH * rowsOf(m.points));
    this.order = gl.createBuffer();
    this.splats = gl.createVertexArray();
    this.empty = gl.createVertexArray();
    gl.bindVertexArray(this.splats);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.order);
    gl.bufferData(gl.ARRAY_BUFFER, 4 * m.points, gl.STREAM_DRAW);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribIPointer(0, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(0, 1);
    this.spent = { pose_and_read_ms: 0, sort_ms: 0, draw_ms: 0 };
  }

  /** Constant resources: textures of the head and the avatar, and the targets that the passes write. */
  prepare(numbers, floats, all) {
    const gl = this.gl, m = this.manifest, n = m.points, vertices = m.vertices;
    const mixes = subdivision(m, numbers), edges = numbers("links");
    const points = atPoints(mixes, floats("template"), 3), near = neighbours(edges, n);
    const turns = turnMatrices(points, near, n);
    const offsets = floats("offsets"), rest = points.map((x, i) => x + offsets[i]);
    const weights = atPoints(mixes, floats("weights"), 5), scales = floats("log_scales"), opacities = floats("opacities");
    const shapes = new Float32Array(4 * n);
    for (let p = 0; p < n; p++) {
      for (let c = 0; c < 3; c++) shapes[4 * p + c] = Math.exp(scales[3 * p + c]);
      shapes[4 * p + 3] = opacities[p];
    }
    const entries = [m.arrays.directions, m.arrays.correctives];
    this.low = entries.flatMap((e) => e.low);
    this.step = entries.flatMap((e) => e.step);
    const steps = [numbers("directions"), numbers("correctives")], table = new Uint16Array(4 * all * vertices);
    let at = 0;
    for (const part of steps) for (let i = 0; i < part.length; i += 3, at += 4) for (let c = 0; c < 3; c++) table[at + c] = part[i + c];
    this.coefficients = new Float32Array(4 * this.constants.COEFFICIENTS);

    this.textures = {
      directions: this.texture(gl.RGBA16UI, gl.RGBA_INTEGER, gl.UNSIGNED_SHORT, TABLE_WIDTH, table),
      parents: this.texture(gl.RGBA32UI, gl.RGBA_INTEGER, gl.UNSIGNED_INT, POINT_WIDTH, mixes.parents),
      shares: this.floatTexture(mixes.shares, 4), points: this.floatTexture(points, 3), rest: this.floatTexture(rest, 3),
      turns_a: this.floatTexture(turns.a, 4), turns_b: this.floatTexture(turns.b, 4),
      weights: this.floatTexture(weights.filter((_, i) => i % 5), 4), rotations: this.floatTexture(floats("rotations"), 4),
      link_ranges: this.texture(gl.RGBA32UI, gl.RGBA_INTEGER, gl.UNSIGNED_INT, POINT_WIDTH, near.ranges),
      links: this.texture(gl.R32UI, gl.RED_INTEGER, gl.UNSIGNED_INT, TABLE_WIDTH, near.links, 1),
      shapes: this.floatTexture(shapes, 4), colours: this.floatTexture(floats("colours"), 3),
    };
    this.shape = this.target(POINT_WIDTH, rowsOf(vertices), 2, gl.RGBA32F);
    this.fine = this.target(POINT_WIDTH, rowsOf(n), 2, gl.RGBA32F);
    this.posed = this.target(POINT_WIDTH, rowsOf(n), 2, gl.RGBA32F);
  }

  /**
   * Draw one frame.
   * pose: {expression (E), rotations (5 × 3), camera {turn, shift}, K {fx, fy, cx, cy}}; the canvas has its size.
   */
  draw({ expression, rotations, camera, K, background = [1, 1, 1], splatScale = 1 }) {
    const gl = this.gl, m = this.manifest, started = performance.now();
    const chain = jointTransforms(rotations, m.joints, m.parents);
    gl.disable(gl.BLEND);
    gl.bindVertexArray(this.empty);
    this.pass(this.programs.shape, this.shape, { directions: this.textures.directions });
    this.blend(expression, rotations);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    const [expressed, corrected] = this.shape.textures, { parents, shares } = this.textures;
    this.pass(this.programs.subdivide, this.fine, { by_expression: expressed, by_correctives: corrected, parents, shares });
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    const { points, rest, turns_a, turns_b, weights, rotations: own, link_ranges, links } = this.textures;
    const [by_expression, by_correctives] = this.fine.textures;
    const pose = this.programs.pose;
    this.pass(pose, this.posed, { by_expression, by_correctives, points, rest, turns_a, turns_b, weights, rotations: own, link_ranges, links });
    gl.uniform1i(pose.at.n_points, m.points);
    gl.uniformMatrix4x3fv(pose.at.joints, false, chain.transforms.flatMap(columnsOf));
    gl.uniform4fv(pose.at.joint_quaternions, chain.quaternions.flat());
    gl.uniform4f(pose.at.depth_row, ...camera.turn[2], camera.shift[2]);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.readBuffer(gl.COLOR_ATTACHMENT0);
    gl.readPixels(0, 0, POINT_WIDTH, rowsOf(m.points), gl.RGBA, gl.FLOAT, this.depths);
    const read = performance.now();
    const order = this.sort.run(this.depths);
    const sorted = performance.now();
    this.paint(order, camera, K, background, splatScale);
    this.spent = { pose_and_read_ms: read - started, sort_ms: sorted - read, draw_ms: performance.now() - sorted };
  }

  /** Coefficients of every direction, in steps. */
  blend(expression, rotations) {
    const gl = this.gl, { at } = this.programs.shape, m = this.manifest;
    const features = this.low.length > m.expressions ? rotations.slice(1).flatMap((r) => subtractIdentity(rotationMatrix(r))) : [];
    const starts = [0, 0];
    this.coefficients.fill(0);
    this.low.forEach((low, d) => {
      const k = d < m.expressions ? expression[d] || 0 : features[d - m.expressions];
      this.coefficients[d] = k * this.step[d];
      starts[d < m.expressions ? 0 : 1] += k * low;
    });
    gl.uniform1i(at.vertices, m.vertices);
    gl.uniform1i(at.expressions, m.expressions);
    gl.uniform1i(at.all, this.low.length);
    gl.uniform4fv(at.coefficients, this.coefficients);
    gl.uniform4f(at.expression_start, starts[0], starts[0], starts[0], 0);
    gl.uniform4f(at.corrective_start, starts[1], starts[1], starts[1], 0);
  }

  paint(order, camera, K, background, splatScale) {
    const gl = this.gl, { width, height } = this.canvas, { splat, compose } = this.programs;
    if (!this.head || this.head.width !== width || this.head.height !== height) {
      if (this.head) { gl.deleteFramebuffer(this.head.framebuffer); this.head.textures.forEach((t) => gl.deleteTexture(t)); }
      this.head = this.target(width, height, 1, gl.RGBA16F);
    }
    const [means, rotations] = this.posed.textures, { shapes, colours } = this.textures;
    this.pass(splat, this.head, { means, rotations, shapes, colours });
    gl.clearBufferfv(gl.COLOR, 0, [0, 0, 0, 0]);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE_MINUS_DST_ALPHA, gl.ONE);
    gl.bindVertexArray(this.splats);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.order);
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, order);
    gl.uniformMatrix4x3fv(splat.at.head_to_camera, false, columnsOf(camera));
    gl.uniform4f(splat.at.K, K.fx, K.fy, K.cx, K.cy);
    gl.uniform2f(splat.at.size, width, height);
    gl.uniform1f(splat.at.splat_scale, splatScale);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, this.manifest.points);
    gl.disable(gl.BLEND);
    gl.bindVertexArray(this.empty);
    this.pass(compose, null, { head: this.head.textures[0] });
    gl.uniform3f(compose.at.background, ...background);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  /** RGBA bytes of the canvas as it was just drawn, top row first. */
  pixels() {
    const gl = this.gl, { width, height } = this.canvas, up = new Uint8Array(4 * width * height), down = new Uint8Array(up.length);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, up);
    for (let y = 0; y < height; y++) down.set(up.subarray(4 * width * (height - 1 - y), 4 * width * (height - y)), 4 * width * y);
    return down;
  }

  /** Begin a pass: program, target (null is the canvas), and its textures by the names of their samplers. */
  pass({ program, at }, target, textures) {
    const gl = this.gl;
    gl.useProgram(program);
    gl.bindFramebuffer(gl.FRAMEBUFFER, target && target.framebuffer);
    gl.viewport(0, 0, target ? target.width : this.canvas.width, target ? target.height : this.canvas.height);
    Object.entries(textures).forEach(([name, texture], unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.uniform1i(at[name], unit);
    });
  }

  program(vertex, fragment) {
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, name] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind), source = document.getElementById(name).textContent.trim();
      const named = Object.entries(this.constants).map(([key, value]) => `#define ${key} ${value}\n`).join("");
      gl.shaderSource(shader, source.replace("#version 300 es\n", `#version 300 es\n${named}`));
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(`${name}: ${gl.getShaderInfoLog(shader)}`);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(`${fragment}: ${gl.getProgramInfoLog(program)}`);
    const at = {};
    for (let i = 0; i < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); i++) {
      const name = gl.getActiveUniform(program, i).name;
      at[name.replace("[0]", "")] = gl.getUniformLocation(program, name);
    }
    return { program, at };
  }

  /** A table of values, row by row; the last row is filled up with zeros. */
  texture(internal, format, type, width, values, channels = 4) {
    const gl = this.gl, rows = Math.max(1, Math.ceil(values.length / (width * channels)));
    const whole = new values.constructor(width * rows * channels);
    whole.set(values);
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.texImage2D(gl.TEXTURE_2D, 0, internal, width, rows, 0, format, type, whole);
    this.nearest();
    return texture;
  }

  floatTexture(values, columns) {
    const gl = this.gl, n = values.length / columns, padded = columns === 4 ? values : new Float32Array(4 * n);
    if (columns < 4) for (let i = 0; i < n; i++) for (let c = 0; c < columns; c++) padded[4 * i + c] = values[columns * i + c];
    return this.texture(gl.RGBA32F, gl.RGBA, gl.FLOAT, POINT_WIDTH, padded);
  }

  target(width, height, n, internal) {
    const gl = this.gl, framebuffer = gl.createFramebuffer(), textures = [];
    gl.bindFramebuffer(gl.FRAMEBUFFER, framebuffer);
    for (let i = 0; i < n; i++) {
      const texture = gl.createTexture();
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.texStorage2D(gl.TEXTURE_2D, 1, internal, width, height);
      this.nearest();
      gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + i, gl.TEXTURE_2D, texture, 0);
      textures.push(texture);
    }
    gl.drawBuffers(textures.map((_, i) => gl.COLOR_ATTACHMENT0 + i));
    if (gl.checkFramebufferStatus(gl.FRAMEBUFFER) !== gl.FRAMEBUFFER_COMPLETE) throw new Error("This browser cannot draw into float textures.");
    return { framebuffer, textures, width, height };
  }

  nearest() {
    const gl = this.gl;
    for (const name of ["TEXTURE_MIN_FILTER", "TEXTURE_MAG_FILTER"]) gl.texParameteri(gl.TEXTURE_2D, gl[name], gl.NEAREST);
    for (const name of ["TEXTURE_WRAP_S", "TEXTURE_WRAP_T"]) gl.texParameteri(gl.TEXTURE_2D, gl[name], gl.CLAMP_TO_EDGE);
  }
}

const rowsOf = (n) => Math.ceil(n / POINT_WIDTH);
const real = (x) => x.toPrecision(9).includes(".") ? x.toPrecision(9) : `${x}.0`;
const subtractIdentity = (r) => r.flatMap((row, i) => row.map((x, j) => x - (i === j ? 1 : 0)));
const columnsOf = ({ turn, shift }) => [0, 1, 2].flatMap((j) => turn.map((row) => row[j])).concat(shift);
