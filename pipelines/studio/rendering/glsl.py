"""The shaders of the rasteriser. ``shading`` and ``development`` state the same formulas in numpy."""

from __future__ import annotations

from pipelines.studio.rendering import shading
from pipelines.studio.rendering.environment import ROUGHNESS
from pipelines.studio.rendering.wrinkles import STEP


def _vec(values: tuple[float, float, float]) -> str:
    return f"vec3({', '.join(f'{v:.6f}' for v in values)})"


VERTEX = """
#version 330
uniform mat4 to_clip;
in vec3 in_position;
in vec3 in_normal;
in vec2 in_uv;
in vec2 in_data;
out vec3 position;
out vec3 normal;
out vec2 uv;
out float occlusion;
flat out float part;
invariant gl_Position;
void main() {
    gl_Position = to_clip * vec4(in_position, 1.0);
    position = in_position; normal = in_normal; uv = in_uv; occlusion = in_data.x; part = in_data.y;
}
"""

DEPTH_VERTEX = """
#version 330
uniform mat4 to_clip;
in vec3 in_position;
in vec2 in_uv;
out vec2 uv;
invariant gl_Position;
void main() { gl_Position = to_clip * vec4(in_position, 1.0); uv = in_uv; }
"""

DEPTH_FRAGMENT = """
#version 330
uniform sampler2D base_map;
uniform float least_alpha;
in vec2 uv;
out vec4 nothing;
void main() {
    if (texture(base_map, uv).a < least_alpha) discard;
    nothing = vec4(0.0);
}
"""

_FRAME = """
in vec3 position;
in vec3 normal;
in vec2 uv;
in float occlusion;
flat in float part;
uniform sampler2D base_map;
uniform sampler2D detail_map;
uniform sampler2D wrinkle_map;
uniform float wrinkles[8];
uniform vec3 eye;
vec3 across, along;
// unit vectors along u and v of the texture in the plane of the triangle
void texture_axes() {
    vec3 dx = dFdx(position), dy = dFdy(position);
    vec2 ux = dFdx(uv), uy = dFdy(uv);
    float d = ux.x * uy.y - ux.y * uy.x;
    float s = d < 0.0 ? -1.0 : 1.0;
    across = s * (dx * uy.y - dy * ux.y);
    along = s * (dy * ux.x - dx * uy.x);
    across /= max(length(across), 1e-12); along /= max(length(along), 1e-12);
}
vec3 facing_normal() { return normalize(normal) * (gl_FrontFacing ? 1.0 : -1.0); }
vec3 detailed_normal(vec3 n, vec3 t) {
    vec3 a = across - n * dot(n, across); a /= max(length(a), 1e-12);
    vec3 b = -along + n * dot(n, along); b -= a * dot(a, b); b /= max(length(b), 1e-12);
    return normalize(a * t.x + b * t.y + n * max(t.z, 0.1));
}
"""

TRUTH_FRAGMENT = (
    """
#version 330
uniform mat3 to_camera;
uniform vec4 depth_row;
uniform float surface_index;
"""
    + _FRAME
    + """
layout(location = 0) out float out_depth;
layout(location = 1) out vec4 out_normal;
layout(location = 2) out vec2 out_uv;
layout(location = 3) out uvec2 out_ids;
void main() {
    if (texture(base_map, uv).a < 0.5) discard;
    out_depth = dot(depth_row, vec4(position, 1.0));
    out_normal = vec4(to_camera * facing_normal(), 1.0);
    out_uv = uv;
    out_ids = uvec2(part, surface_index + 1.0);
}
"""
)

SURFACE_FRAGMENT = (
    """
#version 330
"""
    + _FRAME
    + f"""
#define LAYERS {len(ROUGHNESS)}
const float ROUGHNESS[LAYERS] = float[LAYERS]({", ".join(f"{r:.6f}" for r in ROUGHNESS)});
const vec3 WRAP = {_vec(shading.WRAP)};
const vec3 BAND_1 = {_vec(shading.SCATTER_BAND_1)};
const vec3 BAND_2 = {_vec(shading.SCATTER_BAND_2)};
const vec3 SMOOTHING = {_vec(shading.SCATTER_SMOOTHING)};
const vec3 SHADOW = {_vec(shading.SCATTER_SHADOW)};
const float COAT_ROUGHNESS = {shading.COAT_ROUGHNESS};
const float COAT_F0 = {shading.COAT_F0};
const float FIBRE_WRAP = {shading.FIBRE_WRAP};
const float WRINKLE_STEP = {float(STEP)};
const float FIBRE_GRAZE = {shading.FIBRE_GRAZE};
"""
    + """
uniform sampler2DArray layers;
uniform sampler2DShadow shadow_map;
uniform mat4 to_shadow;
uniform vec3 harmonics[9];
uniform mat3 to_environment;
uniform float intensity;
uniform float specular;
uniform float subsurface;
uniform float clearcoat;
uniform float fibre;
uniform float opaque;
uniform float cutout;
uniform vec3 light_direction[2];
uniform vec3 light_colour[2];
uniform float shadow_bias;
uniform float shadow_radius;
out vec4 colour;

vec3 environment(vec3 d, float roughness) {
    d = to_environment * normalize(d);
    vec2 at = vec2(atan(d.x, -d.z) / 6.28318530718 + 0.5, 0.5 - asin(clamp(d.y, -1.0, 1.0)) / 3.14159265359);
    int k = 0;
    while (k < LAYERS - 2 && roughness >= ROUGHNESS[k + 1]) k++;
    float share = clamp((roughness - ROUGHNESS[k]) / (ROUGHNESS[k + 1] - ROUGHNESS[k]), 0.0, 1.0);
    vec3 low = textureLod(layers, vec3(at, k), 0.0).rgb, high = textureLod(layers, vec3(at, k + 1), 0.0).rgb;
    return intensity * mix(low, high, share);
}
vec3 band_0() { return harmonics[0] * 0.282095; }
vec3 band_1(vec3 n) { return 0.488603 * (harmonics[1] * n.y + harmonics[2] * n.z + harmonics[3] * n.x); }
vec3 band_2(vec3 n) {
    return harmonics[4] * (1.092548 * n.x * n.y) + harmonics[5] * (1.092548 * n.y * n.z)
        + harmonics[6] * (0.315392 * (3.0 * n.z * n.z - 1.0)) + harmonics[7] * (1.092548 * n.x * n.z)
        + harmonics[8] * (0.546274 * (n.x * n.x - n.y * n.y));
}
vec3 scattered(vec3 fine, vec3 smooth_) {
    vec3 one_1 = vec3(1.0) - subsurface * BAND_1, one_2 = vec3(1.0) - subsurface * BAND_2, result;
    for (int c = 0; c < 3; c++) {
        vec3 n = to_environment * normalize(mix(fine, smooth_, subsurface * SMOOTHING[c]));
        result[c] = band_0()[c] + one_1[c] * band_1(n)[c] + one_2[c] * band_2(n)[c];
    }
    return max(result * intensity, vec3(0.0));
}
float environment_brdf(float f0, float roughness, float nv) {
    float x = 1.0 - roughness, y = 0.0425 - 0.0275 * roughness;
    float bend = min(x * x, exp2(-9.28 * nv)) * x + y;
    return f0 * (1.04 - 0.572 * roughness - 1.04 * bend) + 1.04 * bend - 0.04 + 0.022 * roughness;
}
float specular_occlusion(float nv, float visible, float roughness) {
    return clamp(pow(nv + visible, exp2(-16.0 * roughness - 1.0)) - 1.0 + visible, 0.0, 1.0);
}
float ggx(float roughness, float f0, vec3 n, vec3 h, vec3 v, float nl, float nv) {
    float a = max(roughness, 0.06); a *= a;
    float a2 = a * a;
    nl = clamp(nl, 0.0, 1.0);
    float nh = clamp(dot(n, h), 0.0, 1.0);
    float fresnel = f0 + (1.0 - f0) * pow(1.0 - clamp(dot(v, h), 0.0, 1.0), 5.0);
    float d = nh * nh * (a2 - 1.0) + 1.0, k = a / 2.0;
    return a2 / (d * d) * 0.25 / ((nl * (1.0 - k) + k) * (nv * (1.0 - k) + k)) * fresnel * nl;
}
vec3 tinted(float visible) { return pow(vec3(max(visible, 1e-6)), vec3(1.0) - subsurface * SHADOW); }
float shadow(vec3 n) {
    vec4 at = to_shadow * vec4(position + (n + light_direction[0]) * shadow_bias, 1.0);
    float sum = 0.0;
    for (int y = -1; y <= 1; y++) for (int x = -1; x <= 1; x++)
        sum += texture(shadow_map, at.xyz * 0.5 + 0.5 + vec3(x, y, 0.0) * shadow_radius);
    return sum / 9.0;
}
void main() {
    vec4 texel = texture(base_map, uv);
    if (cutout > 0.5 && texel.a < 0.5) discard;
    float alpha = opaque + cutout > 0.5 ? 1.0 : texel.a;
    if (alpha < 0.004 && clearcoat == 0.0) discard;
    texture_axes();
    vec4 detail = texture(detail_map, uv);
    vec3 base = texel.rgb, v = normalize(eye - position);
    vec3 smooth_ = facing_normal();
    vec3 folds = texture(wrinkle_map, uv).xyz * 255.0;
    vec3 bend = detail.xyz * (255.0 / 127.0) - (128.0 / 127.0);
    bend.xy += (folds.xy - 128.0) / 127.0 * wrinkles[int(folds.z / WRINKLE_STEP + 0.5)];
    vec3 n = detailed_normal(smooth_, bend);
    float roughness = detail.a;
    float nv = clamp(dot(n, v), 1e-3, 1.0), nv_coat = clamp(dot(smooth_, v), 1e-3, 1.0);
    vec3 diffuse = scattered(n, smooth_) * tinted(occlusion);
    vec3 gloss = environment(reflect(-v, n), roughness)
        * environment_brdf(specular, roughness, max(nv, FIBRE_GRAZE * fibre))
        * specular_occlusion(nv, occlusion, roughness);
    float fresnel = clearcoat * (COAT_F0 + (1.0 - COAT_F0) * pow(1.0 - nv_coat, 5.0));
    vec3 coat = vec3(0.0);
    if (clearcoat > 0.0)
        coat = environment(reflect(-v, smooth_), COAT_ROUGHNESS) * fresnel
            * specular_occlusion(nv_coat, occlusion, COAT_ROUGHNESS);
    for (int i = 0; i < 2; i++) {
        if (light_colour[i] == vec3(0.0)) continue;
        vec3 l = light_direction[i], h = normalize(v + l);
        float visible = i == 0 ? shadow(smooth_) : occlusion;
        float fine = dot(n, l), coarse = dot(smooth_, l);
        vec3 wrap = max(subsurface * WRAP, vec3(fibre * FIBRE_WRAP));
        vec3 facing = vec3(fine) + (coarse - fine) * subsurface * SMOOTHING;
        diffuse += max((facing + wrap) / (1.0 + wrap), vec3(0.0)) / (1.0 + wrap) * light_colour[i] * tinted(visible);
        float shine = ggx(roughness, specular, n, h, v, fine, nv);
        if (fibre > 0.5) {
            vec3 strand = vec3(0.0, -1.0, 0.0) - smooth_ * -smooth_.y;
            float t = dot(strand / max(length(strand), 1e-3), h), e = 4.0 / pow(max(roughness, 0.1), 2.0);
            shine = pow(max(1.0 - t * t, 1e-6), e / 2.0) * specular * (e + 2.0) / 8.0 * max(fine, 0.0);
        }
        gloss += shine * visible * light_colour[i];
        if (clearcoat > 0.0)
            coat += ggx(COAT_ROUGHNESS, COAT_F0, smooth_, h, v, coarse, nv_coat)
                * clearcoat * visible * light_colour[i];
    }
    vec3 body = base * diffuse * (1.0 - fresnel) + gloss;
    colour = vec4(body * alpha + coat, alpha);
}
"""
)

SCREEN_VERTEX = """
#version 330
const vec2 CORNERS[3] = vec2[3](vec2(-1.0, -1.0), vec2(3.0, -1.0), vec2(-1.0, 3.0));
void main() { gl_Position = vec4(CORNERS[gl_VertexID], 0.0, 1.0); }
"""

DEVELOP_FRAGMENT = """
#version 330
uniform sampler2D person;
uniform sampler2D background;
uniform mat3 pixel_to_map;
uniform vec2 map_size;
uniform int fold;
uniform vec2 size;
uniform float background_gain;
uniform float exposure;
uniform vec3 white_balance;
uniform float contrast;
uniform float saturation;
uniform float knee;
uniform float shot_noise;
uniform float read_noise;
uniform float vignette;
uniform uint seed;
layout(location = 0) out vec4 linear_light;
layout(location = 1) out vec4 encoded;

uint scramble(uint x) {
    uint state = x * 747796405u + 2891336453u;
    uint word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}
float uniform_number(uint x) { return (float(scramble(x) >> 8u) + 0.5) / 16777216.0; }
vec3 cubic_sample(vec2 at) {
    vec2 p = at * map_size - 0.5, base = floor(p), f = p - base;
    vec2 w0 = (1.0 - f) * (1.0 - f) * (1.0 - f) / 6.0, w1 = (4.0 - 6.0 * f * f + 3.0 * f * f * f) / 6.0;
    vec2 w3 = f * f * f / 6.0, w2 = 1.0 - w0 - w1 - w3;
    vec2 g0 = w0 + w1, g1 = w2 + w3;
    vec2 a = (base - 0.5 + w1 / g0) / map_size, b = (base + 1.5 + w3 / g1) / map_size;
    vec3 upper = g0.x * textureLod(background, a, 0.0).rgb + g1.x * textureLod(background, vec2(b.x, a.y), 0.0).rgb;
    vec3 lower = g0.x * textureLod(background, vec2(a.x, b.y), 0.0).rgb + g1.x * textureLod(background, b, 0.0).rgb;
    return g0.y * upper + g1.y * lower;
}
void main() {
    ivec2 at = ivec2(gl_FragCoord.xy);
    vec4 sum = vec4(0.0);
    for (int y = 0; y < fold; y++) for (int x = 0; x < fold; x++)
        sum += texelFetch(person, at * fold + ivec2(x, y), 0);
    sum /= float(fold * fold);
    vec3 d = normalize(pixel_to_map * vec3(gl_FragCoord.xy, 1.0));
    vec2 place = vec2(atan(d.x, -d.z) / 6.28318530718 + 0.5, 0.5 - asin(clamp(d.y, -1.0, 1.0)) / 3.14159265359);
    vec3 light = sum.rgb + (1.0 - sum.a) * cubic_sample(place) * background_gain;
    linear_light = vec4(light, sum.a);
    vec2 off = (gl_FragCoord.xy - 0.5 * size) / (0.5 * size);
    vec3 x = light * exposure * white_balance * (1.0 - vignette * dot(off, off) * 0.5);
    uint pixel = scramble(uint(at.y * int(size.x) + at.x) ^ seed) * 8u;
    for (uint c = 0u; c < 3u; c++) {
        float r = sqrt(-2.0 * log(uniform_number(pixel + 2u * c)));
        x[c] += sqrt(shot_noise * max(x[c], 0.0) + read_noise * read_noise)
            * r * cos(6.28318530718 * uniform_number(pixel + 2u * c + 1u));
    }
    x = max(x, vec3(0.0));
    float grey = dot(x, vec3(0.2126, 0.7152, 0.0722));
    x = max(mix(vec3(grey), x, saturation), vec3(0.0));
    x = 0.18 * pow(max(x / 0.18, vec3(1e-9)), vec3(contrast));
    vec3 shoulder = knee + (1.0 - knee) * (1.0 - exp(-(x - knee) / (1.0 - knee)));
    x = mix(x, shoulder, greaterThan(x, vec3(knee)));
    vec3 curve = mix(12.92 * x, 1.055 * pow(x, vec3(1.0 / 2.4)) - 0.055, greaterThan(x, vec3(0.0031308)));
    encoded = vec4(curve, sum.a);
}
"""
