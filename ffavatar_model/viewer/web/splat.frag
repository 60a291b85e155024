#version 300 es
// Contribution of a Gaussian to a pixel; blended front to back, nearest first.
precision highp float;
uniform vec2 size;
flat in vec2 centre;
flat in vec3 conic;
flat in vec4 colour;
out vec4 added;

void main() {
  vec2 d = vec2(gl_FragCoord.x, size.y - gl_FragCoord.y) - centre;
  float power = 0.5 * (conic.x * d.x * d.x + conic.z * d.y * d.y) + conic.y * d.x * d.y;
  float alpha = min(ALPHA_MAX, colour.w * exp(-power));
  if (alpha < ALPHA_MIN) discard;
  added = vec4(colour.rgb * alpha, alpha);
}
