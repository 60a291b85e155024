#version 300 es
// A Gaussian in the image: the box of its visible part. EWA splatting as in ffavatar_model/renderers/projection.py.
precision highp float;
precision highp int;
uniform sampler2D means, rotations, shapes, colours;   // shapes: standard deviations in metres, opacity
uniform mat4x3 head_to_camera;                         // OpenCV axes: x right, y down, z forward
uniform vec4 K;                                        // fx, fy, cx, cy, pixels
uniform vec2 size;                                     // pixels
uniform float splat_scale;
layout(location = 0) in uint index;
flat out vec2 centre;
flat out vec3 conic;
flat out vec4 colour;                                  // RGB, opacity

void main() {
  ivec2 at = ivec2(int(index) % POINT_WIDTH, int(index) / POINT_WIDTH);
  vec4 shape = texelFetch(shapes, at, 0);
  colour = vec4(texelFetch(colours, at, 0).rgb, shape.w);
  vec3 c = head_to_camera * vec4(texelFetch(means, at, 0).xyz, 1.0);
  float z = max(c.z, NEAR_PLANE);
  vec2 focal = K.xy, slope = c.xy / z, margin = 0.15 * size / focal;
  slope = clamp(slope, -(K.zw / focal + margin), (size - K.zw) / focal + margin);

  vec4 q = texelFetch(rotations, at, 0);
  q /= length(q);
  float w = q.x;
  vec3 v = q.yzw;
  mat3 turn = mat3(
    1.0 - 2.0 * (v.y * v.y + v.z * v.z), 2.0 * (v.x * v.y + w * v.z), 2.0 * (v.x * v.z - w * v.y),
    2.0 * (v.x * v.y - w * v.z), 1.0 - 2.0 * (v.x * v.x + v.z * v.z), 2.0 * (v.y * v.z + w * v.x),
    2.0 * (v.x * v.z + w * v.y), 2.0 * (v.y * v.z - w * v.x), 1.0 - 2.0 * (v.x * v.x + v.y * v.y));
  mat3 axes = mat3(head_to_camera) * turn;
  vec3 s = shape.xyz * splat_scale;
  vec3 row_x = focal.x / z * s * vec3(axes[0].x - slope.x * axes[0].z, axes[1].x - slope.x * axes[1].z, axes[2].x - slope.x * axes[2].z);
  vec3 row_y = focal.y / z * s * vec3(axes[0].y - slope.y * axes[0].z, axes[1].y - slope.y * axes[1].z, axes[2].y - slope.y * axes[2].z);
  float xx = dot(row_x, row_x) + EPS_2D, yy = dot(row_y, row_y) + EPS_2D, xy = dot(row_x, row_y);
  float determinant = xx * yy - xy * xy;
  conic = vec3(yy, -xy, xx) / determinant;
  centre = focal * c.xy / z + K.zw;

  float extent = min(sqrt(2.0 * log(max(shape.w / ALPHA_MIN, 1.0))), MAX_EXTENT);
  vec2 reach = extent * sqrt(vec2(xx, yy)) + 1e-3;
  vec2 corner = vec2(float(gl_VertexID & 1), float(gl_VertexID >> 1)) * 2.0 - 1.0;
  vec2 pixel = centre + corner * reach;
  bool drawn = c.z >= NEAR_PLANE && shape.w >= ALPHA_MIN && determinant > 0.0;
  gl_Position = drawn ? vec4(2.0 * pixel.x / size.x - 1.0, 1.0 - 2.0 * pixel.y / size.y, 0.0, 1.0) : vec4(2.0, 2.0, 2.0, 1.0);
}
