"""The rasteriser in OpenGL, on a GPU or (Mesa's llvmpipe) on the CPU, through EGL without a window."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.media.cameras import Camera, look_at
from pipelines.studio.rendering import glsl
from pipelines.studio.rendering.environment import Environment
from pipelines.studio.rendering.geometry import SOLID_ALPHA
from pipelines.studio.rendering.gl_figure import FigureBuffers
from pipelines.studio.rendering.gl_targets import ImageTargets
from pipelines.studio.rendering.image import StudioImage, SurfaceTruth
from pipelines.studio.rendering.scene import StudioScene

if TYPE_CHECKING:
    from pipelines.studio.people.figure import Figure, PosedFigure

SHADOW_SIZE = 1024
"""Pixels along the edge of the shadow map."""
SHADOW_BIAS = 0.002
"""Distance that a point moves towards the light and off its surface before its shadow is looked up, metres."""
SHADOW_RADIUS = 0.005
"""Half of the side of the square over which shadows are softened, metres."""
KEPT_FIGURES = 4
"""Number of figures whose buffers stay on the device."""
HIDING_ALPHA = 0.98
"""Alpha from which hair hides what is behind it."""
BLEND, DEPTH_TEST = 1, 2
"""Flags of moderngl."""


class RendererError(RuntimeError):
    """A renderer that cannot run here."""


class GlRenderer:
    """A triangle rasteriser; use it in the thread that made it."""

    def __init__(self, samples: int | None = None, fold: int = 1) -> None:
        """Open a context without a window.

        Args:
            samples: Samples a pixel for the edges of triangles; None takes 8, or as many as the device has.
            fold: Factor by which images are rendered larger and then averaged.

        Raises:
            RendererError: moderngl is not installed, or no driver gives an OpenGL 3.3 context.
        """
        self._gl = open_context()
        self.name = f"gl ({self._gl.info['GL_RENDERER']})"
        self._samples, self._fold = min(samples or 8, self._gl.max_samples), fold
        compile_ = self._gl.program
        self._programs = {
            "colour": compile_(vertex_shader=glsl.VERTEX, fragment_shader=glsl.SURFACE_FRAGMENT),
            "truth": compile_(vertex_shader=glsl.VERTEX, fragment_shader=glsl.TRUTH_FRAGMENT),
            "depth": compile_(vertex_shader=glsl.DEPTH_VERTEX, fragment_shader=glsl.DEPTH_FRAGMENT),
        }
        self._develop = compile_(vertex_shader=glsl.SCREEN_VERTEX, fragment_shader=glsl.DEVELOP_FRAGMENT)
        self._screen = self._gl.vertex_array(self._develop, [])
        self._figures: OrderedDict[str, FigureBuffers] = OrderedDict()
        self._gl.depth_func = "<="
        self._targets: dict[tuple[int, int], ImageTargets] = {}
        self._light: tuple[Environment, float, Any, Any] | None = None
        self._shadow_map = self._gl.depth_texture((SHADOW_SIZE, SHADOW_SIZE))
        self._shadow_map.compare_func = "<="
        self._shadow_map.repeat_x = self._shadow_map.repeat_y = False
        self._shadow_target = self._gl.framebuffer(depth_attachment=self._shadow_map)

    def render(
        self, figure: Figure, posed: PosedFigure, camera: Camera, scene: StudioScene, truth: bool = True
    ) -> StudioImage:
        """Render one image, see ``Renderer.render_views``."""
        return self.render_views(figure, posed, [camera], scene, truth)[0]

    def render_views(
        self,
        figure: Figure,
        posed: PosedFigure,
        cameras: Sequence[Camera],
        scene: StudioScene,
        truth: bool = True,
    ) -> list[StudioImage]:
        """Render a posed figure from several cameras, see ``Renderer.render_views``."""
        with self._gl:  # makes it the thread's current context, which another renderer's may be
            buffers = self._upload(figure)
            buffers.pose(posed)
            self._set_light(buffers, scene)
            return [self._view(buffers, camera, scene, truth, index) for index, camera in enumerate(cameras)]

    def close(self) -> None:
        """Free the device's memory."""
        self._gl.release()

    def _upload(self, figure: Figure) -> FigureBuffers:
        if figure.identity_id not in self._figures:
            if len(self._figures) >= KEPT_FIGURES:
                self._figures.popitem(last=False)[1].release()
            self._figures[figure.identity_id] = FigureBuffers(self._gl, figure, self._programs)
        self._figures.move_to_end(figure.identity_id)
        return self._figures[figure.identity_id]

    def _set_light(self, buffers: FigureBuffers, scene: StudioScene) -> None:
        layers, background = self._environment(scene)
        to_shadow = shadow_matrix(buffers.centre, buffers.radius, scene)
        if scene.key is not None:
            self._cast_shadow(buffers, to_shadow)
        lights = [
            (light.direction, light.colour) if light else ((0, 1, 0), (0, 0, 0)) for light in (scene.key, scene.rim)
        ]
        layers.use(2)
        self._shadow_map.use(3)
        background.use(4)
        _assign(
            self._programs["colour"],
            base_map=0,
            detail_map=1,
            wrinkle_map=5,
            wrinkles=buffers.wrinkles,
            layers=2,
            shadow_map=3,
            harmonics=scene.environment.harmonics,
            to_environment=scene.rotation(),
            intensity=scene.intensity,
            light_direction=np.array([d for d, _ in lights]),
            light_colour=np.array([c for _, c in lights]),
            to_shadow=to_shadow,
            shadow_bias=SHADOW_BIAS,
            shadow_radius=SHADOW_RADIUS / (2 * buffers.radius),
        )

    def _environment(self, scene: StudioScene) -> tuple[Any, Any]:
        """Return the textures of the environment's layers and of the blurred background."""
        if self._light is not None:
            environment, blur, *textures = self._light
            if environment is scene.environment and blur == scene.background_blur:
                return textures[0], textures[1]
            for texture in textures:
                texture.release()
        layers = scene.environment.layers
        count, height, width, _ = layers.shape
        light = self._gl.texture_array((width, height, count), 3, layers.astype(np.float16).tobytes(), 2, dtype="f2")
        soft = scene.environment.blurred(scene.background_blur)
        background = self._gl.texture(soft.shape[1::-1], 3, soft.tobytes(), dtype="f4")
        light.repeat_y = background.repeat_y = False
        self._light = (scene.environment, scene.background_blur, light, background)
        return light, background

    def _cast_shadow(self, buffers: FigureBuffers, to_shadow: NDArray[np.float64]) -> None:
        self._shadow_target.use()
        self._shadow_target.clear(depth=1.0)
        self._gl.enable_only(DEPTH_TEST)
        self._draw_depth(buffers, to_shadow, SOLID_ALPHA)

    def _draw_depth(self, buffers: FigureBuffers, to_clip: NDArray[np.float64], least_alpha: float) -> None:
        """Draw the depth alone; of surfaces that are not opaque, where their alpha is at least ``least_alpha``."""
        program = self._programs["depth"]
        _assign(program, to_clip=to_clip, base_map=0)
        for surface in buffers.surfaces:
            alpha_mode = surface.drawn.surface.material.alpha_mode
            _assign(program, least_alpha={"opaque": 0.0, "cutout": SOLID_ALPHA, "blend": least_alpha}[alpha_mode])
            surface.base.use(0)
            surface.arrays["depth"].render()

    def _view(self, buffers: FigureBuffers, camera: Camera, scene: StudioScene, truth: bool, index: int) -> StudioImage:
        size = (camera.width, camera.height)
        if size not in self._targets:
            self._targets[size] = ImageTargets(self._gl, size, self._samples, self._fold)
        targets = self._targets[size]
        to_clip = clip_matrix(camera, buffers.centre, buffers.radius)
        # The image's first row is the framebuffer's lowest, so the turn of triangles is reversed.
        self._gl.front_face = "cw"
        self._draw_truth(buffers, camera, to_clip, targets) if truth else None
        self._draw_colour(buffers, camera, to_clip, targets)
        self._gl.front_face = "ccw"
        self._draw_developed(camera, scene, targets, index)
        encoded = targets.read_encoded()
        if not truth:
            return StudioImage(encoded[..., :3], encoded[..., 3] * np.float32(1 / 255), None, None)
        linear = targets.read_linear()
        return StudioImage(encoded[..., :3], linear[..., 3], linear[..., :3], SurfaceTruth(*targets.read_truth()))

    def _draw_colour(
        self, buffers: FigureBuffers, camera: Camera, to_clip: NDArray[np.float64], targets: ImageTargets
    ) -> None:
        program = self._programs["colour"]
        targets.start_colour()
        # What is hidden is not shaded: the depth comes first.
        self._gl.enable_only(DEPTH_TEST)
        self._draw_depth(buffers, to_clip, HIDING_ALPHA)
        _assign(program, to_clip=to_clip, eye=camera.centre)
        self._gl.blend_func = (1, 0x0303)  # one, one minus the source's alpha: light is multiplied by alpha
        for blended in (False, True):
            self._gl.enable_only(DEPTH_TEST | BLEND)
            targets.depth_writes(not blended)
            for surface in buffers.surfaces:
                if surface.sorted == blended:
                    material = surface.drawn.surface.material
                    surface.sort(camera)
                    surface.base.use(0)
                    surface.detail.use(1)
                    surface.wrinkles.use(5)
                    _assign(
                        program,
                        specular=material.specular,
                        subsurface=material.subsurface,
                        clearcoat=material.clearcoat,
                        fibre=float(surface.drawn.fibre),
                        opaque=float(material.alpha_mode == "opaque"),
                        cutout=float(material.alpha_mode == "cutout"),
                    )
                    surface.arrays["colour"].render()
        targets.depth_writes(True)
        targets.resolve()

    def _draw_truth(
        self, buffers: FigureBuffers, camera: Camera, to_clip: NDArray[np.float64], targets: ImageTargets
    ) -> None:
        program = self._programs["truth"]
        targets.start_truth()
        self._gl.enable_only(DEPTH_TEST)
        _assign(
            program,
            to_clip=to_clip,
            to_camera=camera.world_to_camera[:, :3],
            depth_row=camera.world_to_camera[2],
            base_map=0,
        )
        for index, surface in enumerate(buffers.surfaces):
            surface.base.use(0)
            _assign(program, surface_index=float(index))
            surface.arrays["truth"].render()

    def _draw_developed(self, camera: Camera, scene: StudioScene, targets: ImageTargets, index: int) -> None:
        look = scene.look
        targets.start_developed()
        self._gl.enable_only(0)
        to_map = scene.rotation() @ camera.world_to_camera[:, :3].T @ np.linalg.inv(camera.K)
        height, width = scene.environment.radiance.shape[:2]
        _assign(
            self._develop,
            person=0,
            background=4,
            pixel_to_map=to_map,
            map_size=(width, height),
            fold=self._fold,
            size=(camera.width, camera.height),
            background_gain=scene.background_gain,
            exposure=look.exposure,
            white_balance=look.white_balance,
            contrast=look.contrast,
            saturation=look.saturation,
            knee=look.knee,
            shot_noise=look.shot_noise,
            read_noise=look.read_noise,
            vignette=look.vignette,
            seed=np.uint32((scene.noise_seed + index) & 0xFFFFFFFF),
        )
        self._screen.render(vertices=3)


def open_context() -> Any:
    """Open an OpenGL 3.3 context through EGL.

    Raises:
        RendererError: moderngl is not installed, or no driver gives a context.
    """
    try:
        import moderngl
    except ImportError as error:
        raise RendererError("moderngl is not installed: pip install 'ffavatar[studio-gpu]'") from error
    try:
        options: Any = {"backend": "egl"}
        return moderngl.create_context(require=330, standalone=True, **options)
    except Exception as error:
        raise RendererError(
            f"no OpenGL 3.3 through EGL ({error}); install a driver, or Mesa's (Debian: libegl1 libgl1-mesa-dri)"
        ) from error


def clip_matrix(camera: Camera, centre: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Return the matrix (4, 4) from the world to OpenGL's clip space, image rows from the bottom up.

    Args:
        camera: The camera.
        centre: (3,) centre of a sphere around everything, world metres.
        radius: Radius of the sphere, metres.
    """
    distance = float(camera.world_to_camera[2, :3] @ centre + camera.world_to_camera[2, 3])
    near, far = max(distance - radius, 0.02), max(distance + radius, 0.04)
    scale = np.array([[2 / camera.width, 0, -1], [0, 2 / camera.height, -1], [0, 0, 1]])
    project = np.zeros((4, 4))
    project[[0, 1, 3], :3] = scale @ camera.K
    project[2, 2:] = (far + near) / (far - near), -2 * far * near / (far - near)
    return project @ np.concatenate([camera.world_to_camera, [[0, 0, 0, 1]]])


def shadow_matrix(centre: NDArray[np.float64], radius: float, scene: StudioScene) -> NDArray[np.float64]:
    """Return the matrix (4, 4) from the world to the key light's clip space, which fits a sphere."""
    direction = np.array(scene.key.direction if scene.key else (0.0, 0.0, 1.0), np.float64)
    direction /= np.linalg.norm(direction)
    # A light from straight above needs some other "up": the tilt changes nothing that anyone sees.
    aim = direction if abs(direction[1]) < 0.999 else direction + np.array([0, 0, 0.05])
    view = look_at(centre + 2 * radius * aim, centre)
    project = np.diag([1 / radius, 1 / radius, 1 / radius, 1])
    project[2, 3] = -2
    return project @ np.concatenate([view, [[0, 0, 0, 1]]])


def _assign(program: Any, **values: Any) -> None:
    """Set uniforms that the compiler kept; matrices go column by column."""
    for name, value in values.items():
        if name not in program:
            continue
        if isinstance(value, np.ndarray):
            array = value.T if value.ndim == 2 and value.shape[0] == value.shape[1] and name != "harmonics" else value
            program[name].write(np.ascontiguousarray(array, np.float32).tobytes())
        elif isinstance(value, np.uint32):
            program[name].value = int(value)
        else:
            program[name].value = value
