"""The ray caster against projection and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.media.cameras import Camera, aimed_camera, compose, look_at, rotation_yxz
from pipelines.media.srgb import decode_srgb, encode_srgb
from pipelines.studio.mesh import Mesh, grid_barycentric, grid_index, grid_points, merge, sample_colours, vertex_normals
from pipelines.studio.renderer import Light, Lighting, build_scene, cast_rays, render_mesh

FLAT = Lighting((), sky=(1.0, 1.0, 1.0), ground=(1.0, 1.0, 1.0))
"""Light from everywhere: the image shows the colours as they are."""


def plain(vertices, triangles, colour=(0.5, 0.5, 0.5, 0.0)):
    triangles = np.asarray(triangles, np.int64)
    colours = np.broadcast_to(np.array(colour, np.float32), (len(triangles), 3, 4))
    return Mesh(np.asarray(vertices, np.float32), triangles, colours, 1)


def small_triangles(points, side):
    """One small triangle facing +Z round each point."""
    corners = side * np.array([[-0.5, -0.3, 0], [0.5, -0.3, 0], [0, 0.6, 0]])
    return plain((points[:, None] + corners).reshape(-1, 3), np.arange(3 * len(points)).reshape(-1, 3))


def odd_camera():
    K = np.array([[410.0, 0, 131.3], [0, 395.0, 92.7], [0, 0, 1]])
    return Camera(K, look_at(np.array([0.3, 0.2, 1.1]), np.array([0.01, -0.02, 0.0]), roll=0.3), 240, 180)


def test_known_points_appear_where_the_camera_projects_them():
    g, camera = np.random.default_rng(0), odd_camera()
    points = g.uniform([-0.15, -0.1, -0.1], [0.15, 0.1, 0.1], (40, 3))
    for point in points:
        mesh = small_triangles(point[None], 0.01)
        seen = render_mesh(mesh, camera, FLAT, samples=8)
        mass = seen.alpha.sum()
        assert mass > 2
        y, x = np.mgrid[0:180, 0:240] + 0.5
        middle = np.array([(x * seen.alpha).sum(), (y * seen.alpha).sum()]) / mass
        pixel, depth = camera.project(mesh.vertices.mean(0)[None])
        assert np.abs(middle - pixel[0]).max() < 0.1
        assert abs((seen.depth * seen.alpha).sum() / mass - depth[0]) < 2e-4


def test_covered_area_is_the_projected_polygons_area():
    camera = odd_camera()
    mesh = plain([[-0.08, -0.06, 0.03], [0.1, -0.05, -0.04], [0.02, 0.07, 0.02]], [[0, 1, 2]])
    (ax, ay), (bx, by), (cx, cy) = camera.project(mesh.vertices)[0]
    area = abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2
    assert render_mesh(mesh, camera, FLAT, samples=4).alpha.sum() == pytest.approx(area, rel=3e-3)


def test_head_vertices_in_front_have_the_depth_of_their_projection(studio_head):
    mesh = plain(studio_head.template, studio_head.triangles)
    camera = aimed_camera(0.4, 0.1, distance=1.0, target=np.array([0, 0, -0.05]), span=0.36, size=256)
    hits = cast_rays(build_scene(mesh), camera, 4)
    pixels, depth = camera.project(mesh.vertices)
    to_camera = camera.centre - mesh.vertices
    facing = (studio_head.normals * to_camera).sum(1) / np.linalg.norm(to_camera, axis=1) > 0.6
    x, y = (pixels[facing] * 4).astype(int).T
    off = np.abs(hits.depth[y, x] - depth[facing])
    visible = off < 0.004  # others lie behind the nose, an ear or a lip
    assert visible.mean() > 0.75 and off[visible].mean() < 4e-4


def test_shading_follows_lambert_and_shadows_fall():
    floor = [[-1, 0, -1], [-1, 0, 1], [1, 0, 1], [1, 0, -1]]
    ground = plain(floor, [[0, 1, 2], [0, 2, 3]], (0.5, 0.5, 0.5, 0.0))
    camera = Camera(
        np.array([[40.0, 0, 16], [0, 40, 16], [0, 0, 1]]), look_at(np.array([0, 2.0, 0.01]), np.zeros(3)), 32, 32
    )

    def level(angle, mesh, shadows=False):
        light = Light((0.0, np.cos(angle), np.sin(angle)), (0.8, 0.8, 0.8), shadows)
        seen = render_mesh(mesh, camera, Lighting((light,), sky=(0, 0, 0), ground=(0, 0, 0)))
        return float(decode_srgb(seen.rgb[16, 16] / 255.0)[0])

    wrapped = [(np.cos(a) + 0.15) / 1.15 for a in (0.0, 0.7, 1.2)]
    for angle, share in zip((0.0, 0.7, 1.2), wrapped, strict=True):
        assert level(angle, ground) == pytest.approx(0.4 * share, abs=0.006)
    roof = plain(np.array(floor) * 0.3 + [0, 0.5, 0.5], [[0, 1, 2], [0, 2, 3]])
    shaded = merge([ground, roof])
    assert level(0.785, shaded, shadows=True) == pytest.approx(0.25 * level(0.785, shaded), abs=0.02)


def test_background_alpha_and_srgb():
    g = np.random.default_rng(0)
    backdrop = g.uniform(0, 1, (48, 48, 3)).astype(np.float32)
    camera = aimed_camera(0, 0, distance=1, target=np.zeros(3), span=0.3, size=48)
    seen = render_mesh(plain([[-0.1, -0.1, 0], [0.1, -0.1, 0], [0, 0.1, 0]], [[0, 1, 2]]), camera, FLAT, backdrop)
    outside = seen.alpha == 0
    np.testing.assert_array_equal(seen.rgb[outside], encode_srgb(backdrop)[outside])
    assert np.unique(seen.rgb[seen.alpha == 1]).tolist() == [188]  # linear 0.5
    assert ((seen.alpha > 0) & (seen.alpha < 1)).sum() > 20
    values = np.arange(256)
    np.testing.assert_array_equal(encode_srgb(decode_srgb(values / 255.0)), values)


def test_nothing_in_view_gives_the_background():
    mesh = plain([[5, 5, 0], [6, 5, 0], [5, 6, 0]], [[0, 1, 2]])
    seen = render_mesh(
        mesh, aimed_camera(0, 0, distance=1, target=np.zeros(3), span=0.3, size=16), FLAT, (0.2, 0.2, 0.2)
    )
    assert not seen.alpha.any() and (seen.rgb == encode_srgb(np.float32(0.2))).all()


@pytest.mark.parametrize("order", [1, 2, 5])
def test_mesh_colours_reproduce_a_linear_function(order):
    g = np.random.default_rng(order)
    vertices, triangles = g.normal(size=(6, 3)), np.array([[0, 1, 2], [2, 1, 3], [4, 5, 0]])
    colours = grid_points(np.concatenate([vertices, vertices[:, :1]], 1), triangles, order)
    mesh = Mesh(vertices.astype(np.float32), triangles, colours, order)
    triangle, uv = g.integers(0, 3, 200), g.dirichlet([1, 1, 1], 200).astype(np.float32)
    expected = (vertices[triangles[triangle]] * uv[..., None]).sum(1)
    np.testing.assert_allclose(sample_colours(mesh, triangle, uv[:, 1], uv[:, 2])[:, :3], expected, atol=1e-5)
    corners = sample_colours(mesh, np.zeros(3, int), np.float32([0, 1, 0]), np.float32([0, 0, 1]))
    np.testing.assert_allclose(corners[:, :3], vertices[:3], atol=1e-6)
    for row, (_, i, j) in enumerate((grid_barycentric(order) * order).round().astype(int)):
        assert grid_index(np.array(i), np.array(j), order) == row


def test_normals_of_a_sphere_point_outwards():
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=3)
    normals = vertex_normals(ball.vertices.astype(np.float32), np.asarray(ball.faces, np.int64))
    np.testing.assert_allclose(normals, ball.vertices, atol=0.02)


def test_cameras_look_where_they_are_aimed():
    camera = aimed_camera(0.5, -0.2, distance=1.2, target=np.array([0.1, 0.2, 0.3]), span=0.4, size=200, roll=0.4)
    pixel, depth = camera.project(np.array([[0.1, 0.2, 0.3]]))
    np.testing.assert_allclose(pixel[0], [100, 100], atol=1e-9)
    np.testing.assert_allclose(depth, 1.2)
    assert camera.centre[0] > 0.1 and camera.centre[1] < 0.2 and camera.centre[2] > 0.3
    upright = aimed_camera(0, 0, distance=1, target=np.zeros(3), span=0.4, size=200)
    above, left = upright.project(np.array([[0, 0.1, 0], [0.1, 0, 0]]))[0]
    np.testing.assert_allclose(above, [100, 50], atol=1e-9)  # +Y is up in the image
    np.testing.assert_allclose(left, [150, 100], atol=1e-9)  # the head's left is the image's right


def test_a_moved_head_is_a_moved_camera():
    place = np.concatenate([rotation_yxz(0.3, -0.2, 0.1), [[0.01], [0.02], [-0.03]]], 1)
    camera, point = odd_camera(), np.array([[0.02, 0.05, 0.01]])
    world = point @ place[:, :3].T + place[:, 3]
    np.testing.assert_allclose(camera.moved(place).project(point)[0], camera.project(world)[0])
    np.testing.assert_allclose(compose(place, np.eye(3, 4)), place)
    assert np.linalg.det(place[:, :3]) == pytest.approx(1)
    assert (rotation_yxz(0.3, 0, 0) @ [0, 0, 1])[0] > 0 and (rotation_yxz(0, 0.3, 0) @ [0, 0, 1])[1] < 0
