#version 300 es
// A vertex of the head model: its displacement by expression and pose correctives, metres.
precision highp float;
precision highp int;
precision highp usampler2D;
uniform usampler2D directions;   // texel d * vertices + v: steps of direction d at vertex v
uniform int vertices, expressions, all;
uniform vec4 coefficients[COEFFICIENTS];   // times the step of each direction
uniform vec4 expression_start, corrective_start;   // sum over directions of coefficient * smallest value
layout(location = 0) out vec4 by_expression;
layout(location = 1) out vec4 by_correctives;

void main() {
  int v = int(gl_FragCoord.y) * POINT_WIDTH + int(gl_FragCoord.x);
  vec3 e = expression_start.xyz, c = corrective_start.xyz;
  if (v < vertices) {
    for (int d = 0; d < all; d++) {
      float k = coefficients[d >> 2][d & 3];
      if (k == 0.0) continue;
      int at = d * vertices + v;
      vec3 move = k * vec3(texelFetch(directions, ivec2(at % TABLE_WIDTH, at / TABLE_WIDTH), 0).xyz);
      if (d < expressions) e += move; else c += move;
    }
  }
  by_expression = vec4(e, 0.0);
  by_correctives = vec4(c, 0.0);
}
