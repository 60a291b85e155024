"""The rasteriser against the rays, and what both say about a figure of known shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from pipelines.media.cameras import Camera, aimed_camera
from pipelines.studio.part_classes import Part
from pipelines.studio.people.figure import Pose, PosedFigure
from pipelines.studio.rendering.environment import environment_from_radiance, map_directions
from pipelines.studio.rendering.gl_renderer import GlRenderer, RendererError, open_context
from pipelines.studio.rendering.image import Renderer, StudioImage
from pipelines.studio.rendering.ray_renderer import RayRenderer
from pipelines.studio.rendering.rooms import made_environment
from pipelines.studio.rendering.scene import ColourLook, DirectionalLight, StudioScene
from pipelines.studio.rendering.visibility import project_landmarks
from tests.support.studio_figures import BallFigure

SIZE = 96


@pytest.fixture(scope="module")
def rasteriser() -> Iterator[GlRenderer]:
    try:
        open_context().release()
    except RendererError as error:
        pytest.skip(str(error))
    renderer = GlRenderer(fold=2)
    yield renderer
    renderer.close()


@pytest.fixture(scope="module")
def rays() -> RayRenderer:
    return RayRenderer(4)


def _camera(azimuth: float = 0.4) -> Camera:
    return aimed_camera(azimuth, 0.1, distance=0.9, target=np.zeros(3), span=0.3, size=SIZE)


def _scene(key: bool = True) -> StudioScene:
    light = DirectionalLight((0.6, 0.48, 0.64), (0.5, 0.48, 0.44)) if key else None
    rim = DirectionalLight((-0.6, 0.0, -0.8), (0.5, 0.5, 0.6))
    look = ColourLook(exposure=1.2, contrast=1.1, saturation=0.95, shot_noise=1e-4, read_noise=0.002, vignette=0.2)
    return StudioScene(made_environment(np.random.default_rng(3)), 0.7, key=light, rim=rim, look=look, noise_seed=9)


def _posed(**actions: float) -> PosedFigure:
    return BallFigure().pose(Pose(actions))


@pytest.mark.parametrize("key", [False, True])
def test_the_rasteriser_equals_the_rays(rasteriser: GlRenderer, rays: RayRenderer, key: bool) -> None:
    """The stated error: 1 of 255 in the mean, 12 at the 99th percentile (edges), and the same truth off the edges."""
    drawn, cast = (r.render(BallFigure(), _posed(), _camera(), _scene(key)) for r in (rasteriser, rays))
    off = np.abs(drawn.rgb.astype(int) - cast.rgb).mean(-1)
    assert off.mean() < 1.0 and np.percentile(off, 99) < 12, (off.mean(), np.percentile(off, 99))
    assert np.abs(drawn.matte - cast.matte).mean() < 0.004
    _assert_same_truth(drawn, cast)


def test_an_expression_folds_the_skin_alike_in_both(rasteriser: GlRenderer, rays: RayRenderer) -> None:
    """Wrinkles change the light of their region and no truth; both renderers draw the same."""
    smooth, brows = _posed(), _posed(browInnerUp=1.0, browOuterUpLeft=0.6)
    images = [
        [r.render(BallFigure(), posed, _camera(), _scene()) for posed in (smooth, brows)] for r in (rasteriser, rays)
    ]
    for plain, folded in images:
        assert plain.truth is not None and folded.truth is not None
        changed = np.abs(plain.rgb.astype(int) - folded.rgb).max(-1)
        assert (changed > 12).mean() > 0.01 and np.array_equal(plain.truth.normals, folded.truth.normals)
    off = np.abs(images[0][1].rgb.astype(int) - images[1][1].rgb).mean(-1)
    assert off.mean() < 1.0 and np.percentile(off, 99) < 12, (off.mean(), np.percentile(off, 99))


def _assert_same_truth(drawn: StudioImage, cast: StudioImage) -> None:
    assert drawn.truth is not None and cast.truth is not None and drawn.linear is not None and cast.linear is not None
    same = drawn.truth.surface == cast.truth.surface
    assert same.mean() > 0.99 and (drawn.truth.part == cast.truth.part).mean() > 0.99
    person = same & (cast.truth.surface >= 0)
    assert person.mean() > 0.2
    assert np.percentile(np.abs(drawn.truth.depth - cast.truth.depth)[person], 99) < 2e-5
    assert np.percentile(np.abs(drawn.truth.uv - cast.truth.uv)[person], 99) < 1e-3
    cosine = (drawn.truth.normals * cast.truth.normals).sum(-1)[person]
    assert np.percentile(cosine, 1) > 0.999
    assert np.abs(drawn.linear - cast.linear).mean() < 0.02 * cast.linear.mean()


def test_depth_and_normals_are_those_of_the_ball(rays: RayRenderer) -> None:
    camera = _camera(0.0)
    truth = rays.render(BallFigure(), _posed(), camera, _scene()).truth
    assert truth is not None
    skin = truth.surface == 0
    y, x = np.nonzero(skin)
    pixels = np.stack([x + 0.5, y + 0.5, np.ones_like(x)], 1) @ np.linalg.inv(camera.K).T * truth.depth[skin][:, None]
    world = (pixels - camera.world_to_camera[:, 3]) @ camera.world_to_camera[:, :3]
    assert np.abs(np.linalg.norm(world, axis=1) - 0.1).max() < 5e-4
    normals = truth.normals[skin] @ camera.world_to_camera[:, :3].astype(np.float32)
    assert (normals * world / 0.1).sum(1).min() > 0.99
    assert set(np.unique(truth.part)) <= {Part.BACKGROUND, Part.BODY, Part.HAIR}


@pytest.mark.parametrize("name", ["rasteriser", "rays"])
def test_a_white_furnace_hides_the_person(name: str, request: pytest.FixtureRequest) -> None:
    """A white matt figure without occlusion under the same light from everywhere reflects that light, no more."""
    renderer: Renderer = request.getfixturevalue(name)
    furnace = environment_from_radiance("furnace", np.full((32, 64, 3), 0.5, np.float32))
    image = renderer.render(_WhiteBall("white"), _posed(), _camera(), StudioScene(furnace))
    assert image.linear is not None and image.matte.mean() > 0.2
    assert np.abs(image.linear - 0.5).max() < 0.03, (image.linear.min(), image.linear.max())


class _WhiteBall(BallFigure):
    @property
    def surfaces(self):  # type: ignore[no-untyped-def]
        white = np.full((1, 1, 4), 255, np.uint8)
        return tuple(
            replace(
                surface,
                occlusion=np.ones(surface.triangles.max() + 1, np.float32),
                material=replace(
                    surface.material,
                    base_colour=white,
                    normal_map=None,
                    roughness=1.0,
                    specular=0.0,
                    subsurface=0.0,
                    clearcoat=0.0,
                ),
            )
            for surface in super().surfaces
        )


def test_light_comes_from_where_the_map_has_it(rays: RayRenderer) -> None:
    directions, _ = map_directions(32, 64)
    left = environment_from_radiance("left", np.repeat((directions[..., :1] > 0.7) * 4.0, 3, -1) + 0.01)
    camera = _camera(0.0)
    for yaw, brighter in ((0.0, "right"), (np.pi, "left")):
        image = rays.render(BallFigure(), _posed(), camera, StudioScene(left, yaw))
        assert image.linear is not None
        light = np.where(image.matte[..., None] > 0.9, image.linear, 0)
        halves = {"left": light[:, : SIZE // 2].sum(), "right": light[:, SIZE // 2 :].sum()}
        assert max(halves, key=halves.__getitem__) == brighter, halves


def test_only_landmarks_before_the_surface_are_visible(rays: RayRenderer) -> None:
    camera, posed = _camera(0.0), _posed()
    truth = rays.render(BallFigure(), posed, camera, _scene()).truth
    assert truth is not None
    pixels, visible = project_landmarks(posed.landmarks, camera, truth)
    assert visible[:3].tolist() == [True, False, False] and not visible[3:].any()
    assert np.allclose(pixels[0], SIZE / 2, atol=8) and np.isnan(pixels[2:]).all()


def test_a_vertex_that_is_no_number_renders_nothing(rays: RayRenderer) -> None:
    posed = _posed()
    posed.vertices[0][5] = np.nan
    with pytest.raises(ValueError, match="surface skin: a posed vertex is not finite"):
        rays.render(BallFigure(), posed, _camera(), _scene())


def test_the_same_seed_gives_the_same_bytes(rasteriser: GlRenderer) -> None:
    images = [rasteriser.render(BallFigure(), _posed(), _camera(), _scene(), False).rgb for _ in range(2)]
    assert np.array_equal(*images)
    other = replace(_scene(), noise_seed=10)
    assert not np.array_equal(images[0], rasteriser.render(BallFigure(), _posed(), _camera(), other, False).rgb)


def test_renderers_take_turns_in_one_thread(rasteriser: GlRenderer) -> None:
    """Each has a context of its own, and OpenGL knows one current context a thread."""
    alone = rasteriser.render(BallFigure(), _posed(), _camera(), _scene(), False).rgb
    other = GlRenderer()
    dark = replace(_scene(), background_gain=0.1)
    of_other = other.render(BallFigure(), _posed(jawOpen=1.0), _camera(), dark, False).rgb
    assert np.array_equal(rasteriser.render(BallFigure(), _posed(), _camera(), _scene(), False).rgb, alone)
    assert np.array_equal(other.render(BallFigure(), _posed(jawOpen=1.0), _camera(), dark, False).rgb, of_other)
    other.close()
    assert np.array_equal(rasteriser.render(BallFigure(), _posed(), _camera(), _scene(), False).rgb, alone)
