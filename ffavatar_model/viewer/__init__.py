"""Viewer of an avatar in the browser: a self-contained WebGL2 page that animates it by blendshapes and skinning."""

from ffavatar_model.viewer.packing import pack_avatar, pack_track
from ffavatar_model.viewer.page import avatar_page, page_policy

__all__ = ["avatar_page", "pack_avatar", "pack_track", "page_policy"]
