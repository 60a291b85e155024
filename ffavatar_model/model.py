"""FFAvatar: a model from 1 to N unposed images of a person to an animatable head of 3D Gaussians, driven by images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ffavatar_model.camera import pose_to_camera, project_points, virtual_intrinsics
from ffavatar_model.config import require
from ffavatar_model.head import HeadModel, subdivide
from ffavatar_model.networks.encoder import ImageEncoder
from ffavatar_model.networks.estimator import DrivingParameters, Estimator
from ffavatar_model.networks.gaussians import RAW_SIZE, CanonicalAvatar, GaussianHead
from ffavatar_model.networks.lifting import normalize_lifted_colours, sum_lifted_colours
from ffavatar_model.networks.query_former import QueryFormer
from ffavatar_model.networks.rig import Rig
from ffavatar_model.networks.shape_predictor import ShapePredictor
from ffavatar_model.renderers import Rendering, render_gaussians


class SourceFeatures(NamedTuple):
    """Contributions of the source images of B people. They can be merged, so new images are encoded independently."""

    tokens: Tensor
    """(B, S, T, width) tokens of each source image."""
    mask: Tensor | None
    """(B, S) bool, False for padding; None if there is no padding."""
    colours: Tensor
    """(B, P, 3) sums of colours times weights, see ``lifting.sum_lifted_colours``."""
    weights: Tensor
    """(B, P, 1) sums of the weights of ``colours``."""

    def merged(self, other: SourceFeatures) -> SourceFeatures:
        """Return the features of all images of ``self`` and ``other``, in this order."""
        mask = None
        if self.mask is not None or other.mask is not None:
            mask = torch.cat(
                [_no_padding(each.tokens) if each.mask is None else each.mask for each in (self, other)], 1
            )
        tokens = torch.cat((self.tokens, other.tokens), 1)
        return SourceFeatures(tokens, mask, self.colours + other.colours, self.weights + other.weights)


def _no_padding(views: Tensor) -> Tensor:
    """Return a mask (B, S) of True for tensors ``views`` (B, S, ...)."""
    return torch.ones(views.shape[:2], dtype=torch.bool, device=views.device)


class PosedGaussians(NamedTuple):
    """Gaussians of B avatars, each posed with D sets of parameters, in head axes, metres."""

    means: Tensor
    """(B, D, P, 3) centres."""
    rotations: Tensor
    """(B, D, P, 4) quaternions w, x, y, z."""
    avatar: CanonicalAvatar
    """Canonical avatars; their scales, opacities and colours are those of the posed Gaussians."""


class Output(NamedTuple):
    """Results of a forward pass for B people with D drivers each."""

    rendered: Rendering
    """Images (B, D, ·, H, W)."""
    landmarks: Tensor
    """(B, D, L, 2) projected landmarks of the rendered head, image widths (0 left or top, 1 right or bottom)."""
    estimated_landmarks: Tensor
    """(B, D, L, 2) landmarks projected by the estimated pose; ``landmarks`` if no known camera was rendered."""
    irises: Tensor
    """(B, D, I, 2) projected centres of the irises, the head's own left first; I is 0 if the head has no eyeballs."""
    avatar: CanonicalAvatar
    predicted_shape: Tensor | None
    """(B, S) shape coefficients predicted from the sources; None if the model predicts none, or got ``features``."""
    parameters: DrivingParameters
    """Rendered parameters (B, D, ...); drivers of one timestep share expression and joint rotations."""
    estimated_parameters: DrivingParameters
    """Parameters (B, D, ...) estimated from each driver, before averaging over timesteps."""


class Personal(nn.Module):
    """A person's own parameters, initially zero: terms added to raw Gaussians and to the estimator's raw values."""

    def __init__(self, n_points: int, n_parameters: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.zeros(n_points, RAW_SIZE))
        self.estimator_bias = nn.Parameter(torch.zeros(n_parameters))


class FFAvatar(nn.Module):
    """The complete model; all sizes use the same classes with different settings."""

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """Settings of the model and of its modules."""

        image_size: int = 128
        """Pixels along the edge of the rendered images, which are square."""
        subdivisions: int = 0
        """Number of subdivisions of the head model; 1 makes 20,018 points of FLAME's 5,023 vertices."""
        lift: bool = True
        """True lifts colours from the pixels of the sources, too (``ffavatar_model.networks.lifting``)."""
        shape: int = 0
        """Number of shape coefficients predicted for each person; 0 uses the mean head for all people."""
        encoder: ImageEncoder.Config = field(default_factory=ImageEncoder.Config)
        query_former: QueryFormer.Config = field(default_factory=QueryFormer.Config)
        gaussians: GaussianHead.Config = field(default_factory=GaussianHead.Config)
        estimator: Estimator.Config = field(default_factory=Estimator.Config)

        def __post_init__(self) -> None:
            require(self.image_size >= 8, "image_size", self.image_size, "at least 8 pixels")
            require(0 <= self.subdivisions <= 2, "subdivisions", self.subdivisions, "0, 1 or 2")
            require(self.shape >= 0, "shape", self.shape, "0 (off) or more")

    def __init__(self, config: FFAvatar.Config, head: HeadModel) -> None:
        """Build the modules.

        Args:
            config: Settings of the model.
            head: Head model before subdivision; it is subdivided here.
        """
        super().__init__()
        self.config = config
        self.head_name, self.head_digest = head.name, head.digest
        for _ in range(config.subdivisions):
            head = subdivide(head)
        n_expression = min(config.estimator.n_expression, head.n_expression)
        n_shape = min(config.shape, head.n_shape)
        self.rig = Rig(head, n_expression, n_shape)
        self.encoder = ImageEncoder(config.encoder)
        self.query_former = QueryFormer(config.query_former, config.encoder.backbone.width)
        self.gaussians = GaussianHead(config.gaussians, config.query_former.width, self.rig.spacing)
        self.estimator = Estimator(config.estimator, n_expression, self.rig.start_pose)
        self.personal: Personal | None = None
        self.identity: ShapePredictor | None = None
        if n_shape:
            n_tokens = len(self.encoder.positions)
            self.identity = ShapePredictor(config.encoder.backbone.width, n_tokens, n_shape)

    def add_personal(self) -> Personal:
        """Add a person's own parameters, as zeros, if the model has none, and return the model's."""
        if self.personal is None:
            self.personal = Personal(len(self.rig.points), self.estimator.head.out_features).to(self.rig.points.device)
        return self.personal

    def encode_sources(
        self, sources: Tensor, mask: Tensor | None = None, shape: Tensor | None = None
    ) -> SourceFeatures:
        """Encode source images; the cost per image does not depend on their number.

        Args:
            sources: (B, S, 3, H, W) aligned crops, RGB in 0 to 1.
            mask: (B, S) bool, False for padding; None if there is no padding.
            shape: (B, S) known shape coefficients of the people; None predicts them if the model can.

        Returns:
            Tokens and lifted colours; ``SourceFeatures.merged`` merges them with those of other images.
        """
        tokens = self.encoder(sources.flatten(0, 1)).unflatten(0, sources.shape[:2])
        shape = self.predict_shape(tokens, mask) if shape is None else shape
        return SourceFeatures(tokens, mask, *self._lift_colours(sources, mask, shape))

    def predict_shape(self, tokens: Tensor, mask: Tensor | None) -> Tensor | None:
        """Predict each person's shape coefficients from the tokens of the source images.

        Args:
            tokens: (B, S, T, width) tokens, see ``SourceFeatures``.
            mask: (B, S) bool, False for padding; None if there is no padding.

        Returns:
            (B, ``Config.shape``) coefficients, or None if ``Config.shape`` is 0.
        """
        return None if self.identity is None else self.identity(tokens, mask)

    def query_points(self, encoded: SourceFeatures, shape: Tensor | None = None) -> Tensor:
        """Compute one feature per head point, (B, P, width + 4), from all encoded images.

        Args:
            encoded: Result of ``encode_sources``.
            shape: (B, S) known shape coefficients, as for ``encode_sources``; None predicts them if the model can.
        """
        points, positions = self.rig.normalised, self.rig.frontal_positions
        shape = self.predict_shape(encoded.tokens, encoded.mask) if shape is None else shape
        if shape is not None:  # no gradient: the embedding of queries is not a smooth function of the points
            with torch.no_grad(), torch.autocast(shape.device.type, enabled=False):
                shaped = self.rig.shaped_points(shape)
                points, positions = self.rig.normalise(shaped), self.rig.project_frontal(shaped)
        queried = self.query_former(points, positions, encoded.tokens, self.encoder.positions, encoded.mask)
        return torch.cat((queried, normalize_lifted_colours(encoded.colours, encoded.weights)), -1)

    def point_features(self, sources: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute one feature per head point, (B, P, width + 4); arguments are those of ``encode_sources``."""
        return self.query_points(self.encode_sources(sources, mask))

    def features_and_shape(
        self, sources: Tensor, mask: Tensor | None = None, shape: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Compute ``point_features`` and the shape coefficients from one pass of the encoder.

        Args:
            sources: (B, S, 3, H, W) aligned crops, RGB in 0 to 1.
            mask: (B, S) bool, False for padding; None if there is no padding.
            shape: (B, S) known shape coefficients; None predicts them if the model can.

        Returns:
            Features (B, P, width + 4), and ``shape`` or the result of ``predict_shape``.
        """
        encoded = self.encode_sources(sources, mask, shape)
        shape = self.predict_shape(encoded.tokens, mask) if shape is None else shape
        return self.query_points(encoded, shape), shape

    @torch.no_grad()
    def _lift_colours(self, sources: Tensor, mask: Tensor | None, shape: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the sums of ``sum_lifted_colours``, (B, P, 3) and (B, P, 1), for the poses that the estimator gives.

        They are zero if ``Config.lift`` is False.
        """
        n = len(sources)
        if not self.config.lift:
            zeros = sources.new_zeros(n, len(self.rig.points), 4)
            return zeros[..., :3], zeros[..., 3:]
        parameters = self.estimate(sources)
        with torch.autocast(sources.device.type, enabled=False):
            means, _ = self.rig.pose(self.rig.mean_head(n, shape), parameters)
            normals = self.rig.normals if shape is None else self.rig.shaped_normals(shape)[:, None]
            camera = pose_to_camera(parameters.pose, virtual_intrinsics(2, means), 2)
            mask = _no_padding(sources) if mask is None else mask
            return sum_lifted_colours(sources.float(), mask, means, normals, camera)

    def decode_avatar(self, features: Tensor, shape: Tensor | None = None) -> CanonicalAvatar:
        """Decode point features to canonical Gaussians, with the person's own terms if the model has them.

        Args:
            features: (B, P, width + 4) from ``query_points``.
            shape: (B, S) shape coefficients of the same people; None for the mean head.
        """
        raw = self.gaussians.raw(features)
        avatar = self.gaussians.activate(raw if self.personal is None else raw + self.personal.raw)
        return avatar._replace(shape=shape)

    def reconstruct(self, sources: Tensor, mask: Tensor | None = None, shape: Tensor | None = None) -> CanonicalAvatar:
        """Reconstruct one avatar for each of B people from any number of source images, in any order.

        Args:
            sources: (B, S, 3, H, W) aligned crops, RGB in 0 to 1.
            mask: (B, S) bool, False for padding; None if there is no padding.
            shape: (B, S) known shape coefficients, for example from ``animation.landmark_fit``; None predicts them if
                the model can.

        Returns:
            B canonical avatars.
        """
        return self.decode_avatar(*self.features_and_shape(sources, mask, shape))

    def estimate(self, drivers: Tensor) -> DrivingParameters:
        """Estimate driving parameters (B, D, ·) from aligned crops (B, D, 3, H, W), RGB in 0 to 1."""
        return self.limit_parameters(self.estimate_raw(drivers))

    def estimate_raw(self, drivers: Tensor) -> Tensor:
        """Compute raw values (B, D, E + 21) of aligned crops, before the person's own terms and the limits."""
        return self.estimator.raw(drivers.flatten(0, 1)).unflatten(0, drivers.shape[:2])

    def limit_parameters(self, raw: Tensor) -> DrivingParameters:
        """Convert raw values (B, D, E + 21) to parameters within the limits, after adding the person's own terms."""
        return self.estimator.limit(raw if self.personal is None else raw + self.personal.estimator_bias)

    def neutral_parameters(self, n: int = 1) -> DrivingParameters:
        """Return parameters (n, 1, ...) of heads at rest that look straight out of an aligned crop."""
        start = self.rig.start_pose
        expression = start.new_zeros(n, 1, self.estimator.n_expression)
        return DrivingParameters(expression, start.new_zeros(n, 1, 5, 3), start.expand(n, 1, -1))

    def animate(self, avatar: CanonicalAvatar, parameters: DrivingParameters) -> PosedGaussians:
        """Pose B avatars with parameters (B, D, ...)."""
        means, rotations = self.rig.pose(avatar, parameters)
        return PosedGaussians(means, rotations, avatar)

    def render(
        self,
        posed: PosedGaussians,
        head_to_camera: Tensor,
        K: Tensor,
        background: Tensor | None = None,
        size: int | None = None,
    ) -> Rendering:
        """Render each of (B, D) posed heads with its own camera.

        Args:
            posed: Gaussians from ``animate``.
            head_to_camera: (B, D, 3, 4) transforms, OpenCV axes, metres.
            K: (B, D, 3, 3) intrinsics in pixels, for images of ``size``.
            background: (3,) colour behind the head; None is black.
            size: Pixels along the edge of the images; None is ``Config.image_size``.

        Returns:
            Images with leading dimensions (B, D).
        """
        n, d = posed.means.shape[:2]
        size = size or self.config.image_size

        def per_driver(value: Tensor) -> Tensor:
            return value[:, None].expand(-1, d, *value.shape[1:]).flatten(0, 1)

        a = posed.avatar
        rendered = render_gaussians(
            posed.means.flatten(0, 1),
            posed.rotations.flatten(0, 1),
            per_driver(a.scales),
            per_driver(a.opacities),
            per_driver(a.colours),
            head_to_camera.flatten(0, 1)[:, None],
            K.flatten(0, 1)[:, None],
            size,
            size,
            background,
        )
        return Rendering(*(image[:, 0].unflatten(0, (n, d)) for image in rendered))

    def forward(
        self,
        sources: Tensor,
        mask: Tensor | None,
        drivers: Tensor,
        K: Tensor,
        *,
        head_to_camera: Tensor | None = None,
        timestep: Tensor | None = None,
        features: Tensor | None = None,
        estimates: Tensor | None = None,
        shape: Tensor | None = None,
        background: Tensor | None = None,
    ) -> Output:
        """Reconstruct avatars from sources, then render them with the drivers' parameters.

        Args:
            sources: (B, S, 3, H, W) aligned crops, RGB in 0 to 1.
            mask: (B, S) bool, False for padding; None if there is no padding.
            drivers: (B, D, 3, H, W) aligned crops, RGB in 0 to 1.
            K: (B, D, 3, 3) intrinsics for images of this model's size.
            head_to_camera: (B, D, 3, 4) known cameras; None renders the estimated poses.
            timestep: (B, D) int; drivers of one timestep get their mean expression and joint rotations. None averages
                nothing.
            features: (B, P, width + 4) precomputed ``point_features``; encoder and query former are not run.
            estimates: (B, D, E + 21) precomputed ``estimate_raw`` of the drivers; the estimator is not run.
            shape: (B, S) known shape coefficients; None predicts them from the sources if the model can.
            background: (3,) colour behind the head; None is black.

        Returns:
            The renderings, their landmarks, the avatars and the driving parameters.
        """
        predicted = None
        if features is None:
            encoded = self.encode_sources(sources, mask, shape)
            predicted = self.predict_shape(encoded.tokens, mask)
            shape = predicted if shape is None else shape
            features = self.query_points(encoded, shape)
        avatar = self.decode_avatar(features, shape)
        raw = self.estimate_raw(drivers) if estimates is None else estimates
        parameters = estimated_parameters = self.limit_parameters(raw)
        with torch.autocast(drivers.device.type, enabled=False):  # 8 bits of mantissa are too few for pixel coordinates
            if timestep is not None:
                weight = None if head_to_camera is None else face_visibility(head_to_camera)
                parameters = average_over_timesteps(parameters, timestep, weight)
            posed = self.animate(avatar, parameters)
            size = self.config.image_size
            estimated = pose_to_camera(parameters.pose, K, size)
            camera = estimated if head_to_camera is None else head_to_camera
            points = self.rig.landmarks(posed.means)
            landmarks = project_points(points, camera, K) / size
            irises = project_points(posed.means[..., self.rig.iris_points, :], camera, K) / size
            by_estimate = landmarks if head_to_camera is None else project_points(points, estimated, K) / size
            rendered = self.render(posed, camera, K, background)
        return Output(rendered, landmarks, by_estimate, irises, avatar, predicted, parameters, estimated_parameters)


def face_visibility(head_to_camera: Tensor) -> Tensor:
    """Return the visibility (...) of a face from cameras (..., 3, 4): squared cosine of the angle between them.

    It is 0.03² for cameras behind the face.
    """
    return (-head_to_camera[..., 2, 2]).clamp_min(0.03).square()


def average_over_timesteps(
    parameters: DrivingParameters, timestep: Tensor, weight: Tensor | None = None
) -> DrivingParameters:
    """Average expression and joint rotations over the drivers of equal timestep; poses stay unchanged.

    Args:
        parameters: Parameters (B, D, ...) of the drivers.
        timestep: (B, D) int timestep of each driver.
        weight: (B, D) weights of the drivers, for example ``face_visibility``; None weights all drivers equally.

    Returns:
        Averaged parameters (B, D, ...).
    """
    same = (timestep[:, :, None] == timestep[:, None]).float()
    if weight is not None:
        same = same * weight[:, None]
    same = same / same.sum(-1, keepdim=True)
    return parameters._replace(
        expression=torch.einsum("bij,bje->bie", same, parameters.expression),
        rotations=torch.einsum("bij,bjkc->bikc", same, parameters.rotations),
    )
