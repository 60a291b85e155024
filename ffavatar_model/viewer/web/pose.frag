#version 300 es
// A Gaussian: centre and rotation in the head's axes after expression and skinning, as in ffavatar_model/networks/rig.py.
precision highp float;
precision highp int;
precision highp usampler2D;
uniform sampler2D by_expression, by_correctives;
uniform sampler2D points, rest, turns_a, turns_b, weights, rotations;
uniform usampler2D link_ranges, links;
uniform int n_points;
uniform mat4x3 joints[5];
uniform vec4 joint_quaternions[5];   // w x y z, signs aligned to the first
uniform vec4 depth_row;              // third row of head to camera
layout(location = 0) out vec4 mean_and_depth;
layout(location = 1) out vec4 rotation;

vec4 multiply(vec4 l, vec4 r) {   // quaternions w x y z: first r, then l
  return vec4(l.x * r.x - dot(l.yzw, r.yzw), l.x * r.yzw + r.x * l.yzw + cross(l.yzw, r.yzw));
}

void main() {
  ivec2 at = ivec2(gl_FragCoord.xy);
  if (at.y * POINT_WIDTH + at.x >= n_points) discard;
  vec3 moved = texelFetch(by_expression, at, 0).xyz;
  vec3 centre = texelFetch(rest, at, 0).xyz + moved + texelFetch(by_correctives, at, 0).xyz;

  // Rotation of the surface here under expression: least squares over the edges at this point.
  vec3 here = texelFetch(points, at, 0).xyz, torque = vec3(0.0);
  uvec4 range = texelFetch(link_ranges, at, 0);
  for (uint i = 0u; i < range.y; i++) {
    int k = int(range.x + i);
    int j = int(texelFetch(links, ivec2(k % TABLE_WIDTH, k / TABLE_WIDTH), 0).x);
    ivec2 there = ivec2(j % POINT_WIDTH, j / POINT_WIDTH);
    vec3 edge = texelFetch(points, there, 0).xyz - here;
    torque += cross(edge, texelFetch(by_expression, there, 0).xyz - moved);
  }
  vec4 a = texelFetch(turns_a, at, 0), b = texelFetch(turns_b, at, 0);
  vec3 turn = mat3(a.x, a.y, a.z, a.y, a.w, b.x, a.z, b.x, b.y) * torque;
  float angle = length(turn);
  vec4 local = angle < 1e-3 ? vec4(1.0 - angle * angle / 8.0, turn * (0.5 - angle * angle / 48.0))
                            : vec4(cos(0.5 * angle), turn * (sin(0.5 * angle) / angle));

  vec4 w = texelFetch(weights, at, 0);
  float share[5] = float[5](1.0 - w.x - w.y - w.z - w.w, w.x, w.y, w.z, w.w);
  vec3 posed = vec3(0.0);
  vec4 follow = vec4(0.0);
  for (int j = 0; j < 5; j++) {
    posed += share[j] * (joints[j] * vec4(centre, 1.0));
    follow += share[j] * joint_quaternions[j];
  }
  mean_and_depth = vec4(posed, dot(depth_row.xyz, posed) + depth_row.w);
  rotation = multiply(multiply(normalize(follow), local), texelFetch(rotations, at, 0));
}
