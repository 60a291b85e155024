"""FFAvatar: 1 to N unposed pictures of a person → an animatable head of 3D Gaussians, driven by pictures."""

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
from ffavatar_model.networks.lifting import lifted_colours, lifted_sums
from ffavatar_model.networks.query_former import QueryFormer
from ffavatar_model.networks.rig import Rig
from ffavatar_model.renderers import Rendering, render


class SourceFeatures(NamedTuple):
    """What source pictures of B people contribute: it adds up, so a view that comes later costs its own alone."""

    tokens: Tensor
    """(B, S, T, width)"""
    mask: Tensor | None
    """(B, S) bool, False is padding; None where nothing is."""
    colours: Tensor
    """(B, P, 3) see ``lifting.lifted_sums``."""
    weights: Tensor
    """(B, P, 1)"""

    def joined(self, other: SourceFeatures) -> SourceFeatures:
        """Both together."""
        mask = None
        if self.mask is not None or other.mask is not None:
            mask = torch.cat([_whole(seen.tokens) if seen.mask is None else seen.mask for seen in (self, other)], 1)
        tokens = torch.cat((self.tokens, other.tokens), 1)
        return SourceFeatures(tokens, mask, self.colours + other.colours, self.weights + other.weights)


def _whole(views: Tensor) -> Tensor:
    """(B, S) True, for (B, S, ...)."""
    return torch.ones(views.shape[:2], dtype=torch.bool, device=views.device)


class PosedGaussians(NamedTuple):
    """Gaussians of B avatars under D sets of parameters each, in the head's axes, metres."""

    means: Tensor
    """(B, D, P, 3)"""
    rotations: Tensor
    """(B, D, P, 4) quaternions w, x, y, z"""
    avatar: CanonicalAvatar
    """Scales, opacities and colours do not change with the pose."""


class Output(NamedTuple):
    """What a forward pass gives for B people with D drivers each."""

    rendered: Rendering
    """(B, D, ·, H, W)"""
    landmarks: Tensor
    """(B, D, L, 2) the head's landmarks in the picture, in picture widths (0 to 1 across)."""
    estimated_landmarks: Tensor
    """The same under the estimated pose, where a known camera was rendered; equal to ``landmarks`` otherwise."""
    avatar: CanonicalAvatar
    parameters: DrivingParameters
    """What was rendered: drivers of one moment share their expression and joint rotations."""
    each: DrivingParameters
    """What the estimator says of each driver by itself, before it is averaged over a moment."""


class Personal(nn.Module):
    """What one person adds to the model: to raw Gaussians, and to what the estimator says. Zero at first."""

    def __init__(self, n_points: int, n_parameters: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.zeros(n_points, RAW_SIZE))
        self.estimator_bias = nn.Parameter(torch.zeros(n_parameters))


class FFAvatar(nn.Module):
    """The whole model; every size is the same classes with other numbers."""

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """Sizes of every part."""

        image_size: int = 128
        """Rendered pictures are square, of this many pixels."""
        subdivisions: int = 0
        """How often the head model is subdivided: FLAME's 5,023 vertices become 20,018 points at 1."""
        lift: bool = True
        """Whether colours are also lifted from the sources' own pixels (``ffavatar_model.networks.lifting``)."""
        encoder: ImageEncoder.Config = field(default_factory=ImageEncoder.Config)
        query_former: QueryFormer.Config = field(default_factory=QueryFormer.Config)
        gaussians: GaussianHead.Config = field(default_factory=GaussianHead.Config)
        estimator: Estimator.Config = field(default_factory=Estimator.Config)

        def __post_init__(self) -> None:
            require(self.image_size >= 8, "image_size", self.image_size, "at least 8 pixels")
            require(0 <= self.subdivisions <= 2, "subdivisions", self.subdivisions, "0, 1 or 2")

    def __init__(self, config: FFAvatar.Config, head: HeadModel) -> None:
        """``head`` as it comes from its file: it is subdivided here."""
        super().__init__()
        self.config = config
        self.head_name, self.head_digest = head.name, head.digest
        for _ in range(config.subdivisions):
            head = subdivide(head)
        n_expression = min(config.estimator.n_expression, head.n_expression)
        self.rig = Rig(head, n_expression)
        self.encoder = ImageEncoder(config.encoder)
        self.query_former = QueryFormer(config.query_former, config.encoder.backbone.width)
        self.gaussians = GaussianHead(config.gaussians, config.query_former.width, self.rig.spacing)
        self.estimator = Estimator(config.estimator, n_expression, self.rig.start_pose)
        self.personal: Personal | None = None

    def add_personal(self) -> Personal:
        """Give the model a person's own parameters (zero), unless it has them."""
        if self.personal is None:
            self.personal = Personal(len(self.rig.points), self.estimator.head.out_features).to(self.rig.points.device)
        return self.personal

    def see(self, sources: Tensor, mask: Tensor | None = None) -> SourceFeatures:
        """What each source picture contributes, computed once a picture.

        ``sources (B, S, 3, H, W)`` RGB in 0 to 1, ``mask (B, S)`` bool (False is padding; None: nothing is).
        """
        tokens = self.encoder(sources.flatten(0, 1)).unflatten(0, sources.shape[:2])
        return SourceFeatures(tokens, mask, *self._lift(sources, mask))

    def features_of(self, seen: SourceFeatures) -> Tensor:
        """(B, P, width + 4) a feature a point, from all views seen so far."""
        queried = self.query_former(self.rig.normalised, self.rig.places, seen.tokens, self.encoder.places, seen.mask)
        return torch.cat((queried, lifted_colours(seen.colours, seen.weights)), -1)

    def features(self, sources: Tensor, mask: Tensor | None = None) -> Tensor:
        """``features_of`` what is seen in ``sources``."""
        return self.features_of(self.see(sources, mask))

    @torch.no_grad()
    def _lift(self, sources: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Sums (B, P, 3), (B, P, 1) of what the sources show at the head's points as posed by the estimator.

        All zero where the configuration has ``lift=False``.
        """
        n = len(sources)
        if not self.config.lift:
            nothing = sources.new_zeros(n, len(self.rig.points), 4)
            return nothing[..., :3], nothing[..., 3:]
        parameters = self.estimate(sources)
        with torch.autocast(sources.device.type, enabled=False):
            means, _ = self.rig.pose(self.rig.mean_head(n), parameters)
            camera = pose_to_camera(parameters.pose, virtual_intrinsics(2, means), 2)
            shown = _whole(sources) if mask is None else mask
            return lifted_sums(sources.float(), shown, means, self.rig.normals, camera)

    def canonical(self, features: Tensor) -> CanonicalAvatar:
        """(B, P, width + 4) features → canonical Gaussians, the person's own part included."""
        raw = self.gaussians.raw(features)
        return self.gaussians.activate(raw if self.personal is None else raw + self.personal.raw)

    def reconstruct(self, sources: Tensor, mask: Tensor | None = None) -> CanonicalAvatar:
        """Any number of source pictures, in any order → one avatar for each of B people. See ``see``."""
        return self.canonical(self.features(sources, mask))

    def estimate(self, drivers: Tensor) -> DrivingParameters:
        """(B, D, 3, H, W) aligned crops, RGB in 0 to 1 → expression, joint rotations and head pose (B, D, ·)."""
        return self.driven(self.estimates(drivers))

    def estimates(self, drivers: Tensor) -> Tensor:
        """(B, D, E + 21) the estimator's raw values, before a person's bias and the limits."""
        return self.estimator.raw(drivers.flatten(0, 1)).unflatten(0, drivers.shape[:2])

    def driven(self, raw: Tensor) -> DrivingParameters:
        """Parameters of raw values (B, D, E + 21), the person's own part included."""
        return self.estimator.limit(raw if self.personal is None else raw + self.personal.estimator_bias)

    def neutral(self, n: int = 1) -> DrivingParameters:
        """(n, 1, ...) the head at rest, looking straight out of an aligned crop."""
        start = self.rig.start_pose
        expression = start.new_zeros(n, 1, self.estimator.n_expression)
        return DrivingParameters(expression, start.new_zeros(n, 1, 5, 3), start.expand(n, 1, -1))

    def animate(self, avatar: CanonicalAvatar, parameters: DrivingParameters) -> PosedGaussians:
        """B avatars under (B, D) parameters."""
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
        """Each of (B, D) posed heads by its own camera.

        ``head_to_camera (B, D, 3, 4)``, ``K (B, D, 3, 3)`` for pictures of ``size`` pixels (by default the model's).
        """
        n, d = posed.means.shape[:2]
        size = size or self.config.image_size

        def each(value: Tensor) -> Tensor:
            return value[:, None].expand(-1, d, *value.shape[1:]).flatten(0, 1)

        a = posed.avatar
        rendered = render(
            posed.means.flatten(0, 1),
            posed.rotations.flatten(0, 1),
            each(a.scales),
            each(a.opacities),
            each(a.colours),
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
        moment: Tensor | None = None,
        features: Tensor | None = None,
        estimates: Tensor | None = None,
        background: Tensor | None = None,
    ) -> Output:
        """Reconstruct from sources, then re-enact the drivers.

        Args:
            sources, mask: see ``see``.
            drivers: (B, D, 3, H, W) aligned crops.
            K: (B, D, 3, 3) intrinsics for pictures of this model's size.
            head_to_camera: (B, D, 3, 4) where it is known; the estimated pose is rendered otherwise.
            moment: (B, D) int: drivers of one moment share their mean expression and joint rotations.
            features: (B, P, width + 4), to leave encoder and query former out.
            estimates: (B, D, E + 21) ``estimates`` of the drivers, to leave the estimator out.
            background: (3,) behind the head.
        """
        avatar = self.canonical(self.features(sources, mask) if features is None else features)
        parameters = each = self.driven(self.estimates(drivers) if estimates is None else estimates)
        with torch.autocast(drivers.device.type, enabled=False):  # pixels have no place in 8 bits of mantissa
            if moment is not None:
                parameters = share_moments(
                    parameters, moment, None if head_to_camera is None else facing(head_to_camera)
                )
            posed = self.animate(avatar, parameters)
            size = self.config.image_size
            estimated = pose_to_camera(parameters.pose, K, size)
            camera = estimated if head_to_camera is None else head_to_camera
            points = self.rig.landmarks(posed.means)
            landmarks = project_points(points, camera, K) / size
            by_estimate = landmarks if head_to_camera is None else project_points(points, estimated, K) / size
            rendered = self.render(posed, camera, K, background)
        return Output(rendered, landmarks, by_estimate, avatar, parameters, each)


def facing(head_to_camera: Tensor) -> Tensor:
    """(...) how much of a face a camera (..., 3, 4) sees: the squared cosine of their angle; nearly 0 behind."""
    return (-head_to_camera[..., 2, 2]).clamp_min(0.03).square()


def share_moments(parameters: DrivingParameters, moment: Tensor, weight: Tensor | None = None) -> DrivingParameters:
    """Expression and joint rotations averaged over the drivers (B, D) of equal ``moment``; poses stay.

    ``weight (B, D)``: who sees the face says more of what it does. All count alike where it is None.
    """
    same = (moment[:, :, None] == moment[:, None]).float()
    if weight is not None:
        same = same * weight[:, None]
    same = same / same.sum(-1, keepdim=True)
    return parameters._replace(
        expression=torch.einsum("bij,bje->bie", same, parameters.expression),
        rotations=torch.einsum("bij,bjkc->bikc", same, parameters.rotations),
    )
