#version 300 es
// A point of the subdivided head: the mean of up to four vertices of the head model.
precision highp float;
precision highp int;
precision highp usampler2D;
uniform sampler2D by_expression, by_correctives, shares;
uniform usampler2D parents;
layout(location = 0) out vec4 point_by_expression;
layout(location = 1) out vec4 point_by_correctives;

void main() {
  ivec2 at = ivec2(gl_FragCoord.xy);
  uvec4 parent = texelFetch(parents, at, 0);
  vec4 share = texelFetch(shares, at, 0);
  vec4 e = vec4(0.0), c = vec4(0.0);
  for (int i = 0; i < 4; i++) {
    ivec2 from = ivec2(int(parent[i]) % POINT_WIDTH, int(parent[i]) / POINT_WIDTH);
    e += share[i] * texelFetch(by_expression, from, 0);
    c += share[i] * texelFetch(by_correctives, from, 0);
  }
  point_by_expression = e;
  point_by_correctives = c;
}
