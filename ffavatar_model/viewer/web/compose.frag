#version 300 es
// The head over its background.
precision highp float;
uniform sampler2D head;
uniform vec3 background;
out vec4 shown;

void main() {
  vec4 found = texelFetch(head, ivec2(gl_FragCoord.xy), 0);
  shown = vec4(found.rgb + (1.0 - found.a) * background, 1.0);
}
