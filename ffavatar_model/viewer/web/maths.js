// Vectors are arrays; matrices are arrays of rows. Conventions: ffavatar_model/camera.py and head/skinning.py.

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const add = (a, b) => a.map((x, i) => x + b[i]);
const subtract = (a, b) => a.map((x, i) => x - b[i]);
const scale = (a, s) => a.map((x) => x * s);
const normalise = (a) => scale(a, 1 / Math.max(Math.hypot(...a), 1e-12));
const apply = (m, v) => m.map((row) => dot(row, v));
const multiply = (a, b) => a.map((row) => [0, 1, 2].map((j) => row[0] * b[0][j] + row[1] * b[1][j] + row[2] * b[2][j]));
const IDENTITY = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];

/** Rotation of an axis-angle vector, radians (Rodrigues). */
function rotationMatrix(r) {
  const angle = Math.hypot(...r);
  const s = angle < 1e-6 ? 1 : Math.sin(angle) / angle;
  const c = angle < 1e-3 ? 0.5 - (angle * angle) / 24 : (1 - Math.cos(angle)) / (angle * angle);
  const k = [[0, -r[2], r[1]], [r[2], 0, -r[0]], [-r[1], r[0], 0]];
  const kk = multiply(k, k);
  return IDENTITY.map((row, i) => row.map((x, j) => x + s * k[i][j] + c * kk[i][j]));
}

/** Unit quaternion w x y z of an axis-angle vector. */
function quaternion(r) {
  const angle = Math.hypot(...r);
  const s = angle < 1e-6 ? 0.5 : Math.sin(angle / 2) / angle;
  return [Math.cos(angle / 2), r[0] * s, r[1] * s, r[2] * s];
}

/** Hamilton product of quaternions w x y z: first b, then a. */
function multiplyQuaternions(a, b) {
  const [w, x, y, z] = a;
  const [W, X, Y, Z] = b;
  return [w * W - x * X - y * Y - z * Z, w * X + x * W + y * Z - z * Y,
          w * Y - x * Z + y * W + z * X, w * Z + x * Y - y * X + z * W];
}

/** Transforms {turn, shift} of a chain of joints from rest to posed, and their world quaternions. */
function jointTransforms(rotations, joints, parents) {
  const world = [], place = [], quaternions = [];
  parents.forEach((parent, j) => {
    const local = rotationMatrix(rotations[j]), q = quaternion(rotations[j]);
    world.push(parent < 0 ? local : multiply(world[parent], local));
    place.push(parent < 0 ? joints[j] : add(place[parent], apply(world[parent], subtract(joints[j], joints[parent]))));
    quaternions.push(parent < 0 ? q : multiplyQuaternions(quaternions[parent], q));
  });
  const aligned = quaternions.map((q) => (q.reduce((sum, x, i) => sum + x * quaternions[0][i], 0) < 0 ? scale(q, -1) : q));
  return { transforms: world.map((turn, j) => ({ turn, shift: subtract(place[j], apply(turn, joints[j])) })), quaternions: aligned };
}

/** Pose (9) in a square image of `width` pixels with K {fx, fy, cx, cy} → {turn, shift}, head to camera. */
function poseToCamera(pose, K, width) {
  const depth = (K.fx + K.fy) / 2 / (width * Math.exp(pose[6]));
  const ray = [((pose[7] + 1) * width / 2 - K.cx) / K.fx, ((pose[8] + 1) * width / 2 - K.cy) / K.fy, 1];
  const first = normalise(pose.slice(0, 3)), raw = pose.slice(3, 6);
  const second = normalise(subtract(raw, scale(first, dot(first, raw)))), third = cross(first, second);
  const columns = [0, 1, 2].map((i) => [first[i], second[i], third[i]]);
  const [x, y, z] = normalise(ray), share = 1 / (1 + z);
  const towards = [[1 - x * x * share, -x * y * share, x], [-x * y * share, 1 - y * y * share, y], [-x, -y, z]];
  const turn = multiply(multiply(towards, columns), [[1, 0, 0], [0, -1, 0], [0, 0, -1]]);
  return { turn, shift: scale(ray, depth) };
}
