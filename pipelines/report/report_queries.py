"""SQL queries of the report's tables and figures, over the views of the corpus."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.mining.speed_of_light import WORK_QUERY

SHOWN_IDENTITIES = 48
"""Largest number of identities, and of captures, that are shown."""
SHOWN_FACES = 8
"""Largest number of faces per identity, and of images per capture."""
SHOWN_SAMPLES = 8
"""Largest number of samples per reason of rejection."""
SHOWN_ROWS = 200
"""Largest number of rows in the table of videos, so that the page is readable for a corpus of any size."""


@dataclass(frozen=True)
class ReportQuery:
    """A named SQL query, which the report shows exactly as it was run."""

    name: str
    """Name of the query."""
    sql: str
    """Text of the query."""


HEADLINE = ReportQuery(
    "headline",
    """
SELECT (SELECT count(*) FROM videos) AS videos,
       (SELECT count(*) FROM videos WHERE status = 'ok') AS videos_ok,
       (SELECT coalesce(sum(duration_s), 0) FROM videos WHERE status = 'ok') AS seconds,
       (SELECT count(*) FROM shots) AS shots,
       (SELECT count(*) FROM tracks) AS tracks,
       (SELECT count(*) FROM tracks WHERE status = 'ok') AS tracks_ok,
       (SELECT count(*) FROM faces) AS faces,
       (SELECT count(*) FROM faces WHERE status = 'ok') AS faces_ok,
       (SELECT count(*) FROM identities) AS identities,
       (SELECT count(*) FROM identity_faces) AS faces_chosen,
       (SELECT count(*) FROM captures) AS captures,
       (SELECT count(*) FROM views) AS views""",
)

FUNNEL = ReportQuery(
    "funnel",
    """
SELECT stage, reason, items, share, seconds
FROM funnel
ORDER BY coalesce(list_position(['videos', 'shots', 'tracks', 'faces', 'identities', 'views'], stage), 99), stage,
         reason <> 'ok', items DESC, reason""",
)

IDENTITIES = ReportQuery(
    "identities",
    f"""
WITH shown AS (
  SELECT * FROM identities ORDER BY n_videos DESC, n_faces DESC, identity_id LIMIT {SHOWN_IDENTITIES}
)
SELECT shown.identity_id, shown.split, shown.n_videos, shown.n_tracks, shown.n_faces, shown.cohesion,
       chosen.face_id, chosen.rank, chosen.why, faces.yaw_deg, faces.pitch_deg, faces.x1 - faces.x0 AS width_px,
       faces.sharpness, faces.frame_index, videos.uri, faces.crop, faces.matte
FROM shown
LEFT JOIN identity_faces AS chosen ON chosen.identity_id = shown.identity_id AND chosen.rank < {SHOWN_FACES}
LEFT JOIN faces ON faces.face_id = chosen.face_id
LEFT JOIN videos ON videos.video_id = faces.video_id
ORDER BY shown.n_videos DESC, shown.n_faces DESC, shown.identity_id, chosen.rank""",
)

SPLITS = ReportQuery(
    "splits",
    """
SELECT split, count(*) AS identities, sum(n_faces) AS faces, sum(n_videos > 1) AS in_several_videos,
       avg(cohesion) AS cohesion
FROM identities GROUP BY split ORDER BY list_position(['train', 'val', 'test'], split), split""",
)

DIVERSITY = ReportQuery(
    "diversity",
    """
SELECT n_chosen < n_good AS had_a_choice, count(*) AS identities, avg(n_good) AS good, avg(n_chosen) AS chosen,
       avg(distance) AS distance, avg(distance_at_random) AS distance_at_random,
       avg(nearest) AS nearest, avg(nearest_at_random) AS nearest_at_random
FROM diversity GROUP BY had_a_choice ORDER BY had_a_choice DESC""",
)

REJECTED_TRACKS = ReportQuery(
    "rejected_tracks",
    f"""
WITH refused AS (
  SELECT *, count(*) OVER (PARTITION BY reason) AS total,
         row_number() OVER (PARTITION BY reason ORDER BY track_id) AS nth
  FROM tracks WHERE status <> 'ok'
), best AS (
  SELECT track_id, arg_max(crop, (score, face_id)) AS crop
  FROM faces SEMI JOIN (FROM refused WHERE nth <= {SHOWN_SAMPLES}) USING (track_id)
  WHERE crop IS NOT NULL GROUP BY track_id
)
SELECT refused.reason, refused.status, total, refused.mean_width_px AS width_px,
       refused.mean_sharpness AS sharpness, refused.start_frame AS frame_index, videos.uri, best.crop
FROM refused
LEFT JOIN best USING (track_id)
LEFT JOIN videos ON videos.video_id = refused.video_id
WHERE nth <= {SHOWN_SAMPLES}
ORDER BY total DESC, refused.reason, nth""",
)

REJECTED_FACES = ReportQuery(
    "rejected_faces",
    f"""
WITH refused AS (
  SELECT faces.face_id, faces.video_id, faces.status, faces.reason, x1 - x0 AS width_px, sharpness, frame_index,
         count(*) OVER (PARTITION BY faces.reason) AS total,
         row_number() OVER (PARTITION BY faces.reason ORDER BY face_id) AS nth
  FROM faces JOIN tracks USING (track_id)
  WHERE faces.status <> 'ok' AND tracks.status = 'ok'
)
SELECT refused.reason, refused.status, total, refused.width_px, refused.sharpness, refused.frame_index, videos.uri,
       faces.crop
FROM refused
LEFT JOIN faces ON faces.face_id = refused.face_id
LEFT JOIN videos ON videos.video_id = refused.video_id
WHERE nth <= {SHOWN_SAMPLES}
ORDER BY total DESC, refused.reason, nth""",
)

VIDEOS = ReportQuery(
    "videos",
    f"""
SELECT videos.uri, videos.status, videos.reason, codec, width, height, fps, duration_s, n_frames, n_frames_decoded,
       coalesce(s.shots, 0) AS shots, coalesce(t.tracks, 0) AS tracks, coalesce(t.tracks_ok, 0) AS tracks_ok,
       coalesce(t.identities, 0) AS identities
FROM videos
LEFT JOIN (SELECT video_id, count(*) AS shots FROM shots GROUP BY video_id) AS s USING (video_id)
LEFT JOIN (SELECT video_id, count(*) AS tracks, count(*) FILTER (status = 'ok') AS tracks_ok,
                  count(DISTINCT identity_id) AS identities
           FROM tracks LEFT JOIN assignments USING (track_id) GROUP BY video_id) AS t USING (video_id)
ORDER BY videos.status = 'ok', videos.reason, videos.uri
LIMIT {SHOWN_ROWS}""",
)

RIGHTS = ReportQuery(
    "rights",
    """
SELECT coalesce(nullif(licence, ''), 'not stated') AS licence, coalesce(nullif(consent, ''), 'not stated') AS consent,
       count(*) AS videos, sum(duration_s) AS seconds
FROM videos GROUP BY ALL ORDER BY videos DESC, licence, consent""",
)

WIDTHS = ReportQuery(
    "widths",
    """
SELECT floor((x1 - x0) / 20) * 20 AS low, count(*) FILTER (status = 'ok') AS used,
       count(*) FILTER (status <> 'ok') AS unused
FROM faces WHERE isfinite(x1 - x0) GROUP BY low ORDER BY low""",
)

SHARPNESS = ReportQuery(
    "sharpness",
    """
SELECT floor(2 * log2(greatest(sharpness, 1))) / 2 AS low, count(*) FILTER (status = 'ok') AS used,
       count(*) FILTER (status <> 'ok') AS unused
FROM faces WHERE isfinite(sharpness) GROUP BY low ORDER BY low""",
)

YAWS = ReportQuery(
    "yaws",
    """
SELECT floor(yaw_deg / 10) * 10 AS low, count(*) FILTER (status = 'ok') AS used,
       count(*) FILTER (status <> 'ok') AS unused
FROM faces WHERE isfinite(yaw_deg) GROUP BY low ORDER BY low""",
)

ATTEMPTS = ReportQuery(
    "attempts",
    """
SELECT step, count(DISTINCT item_id) AS items, count(*) AS attempts, count(*) FILTER (status = 'ok') AS ok,
       count(*) FILTER (status = 'rejected') AS rejected, count(*) FILTER (status = 'failed') AS failed,
       sum(seconds) AS seconds, sum(seconds) / count(*) AS seconds_each, sum(bytes) AS bytes
FROM attempts GROUP BY step ORDER BY seconds DESC NULLS LAST, step""",
)

WORK = ReportQuery("work", WORK_QUERY)

CAPTURES = ReportQuery(
    "captures",
    f"""
WITH counts AS (
  SELECT capture_id, count(*) AS views, count(*) FILTER (status = 'ok') AS views_ok,
         list(image ORDER BY frame_index, camera_id) FILTER (status = 'ok')[:{SHOWN_FACES}] AS images
  FROM views GROUP BY capture_id
)
SELECT capture_id, dataset, coalesce(licence, 'not stated') AS licence, n_cameras, n_frames,
       coalesce(views, 0) AS views, coalesce(views_ok, 0) AS views_ok, images
FROM captures LEFT JOIN counts USING (capture_id)
ORDER BY dataset, capture_id LIMIT {SHOWN_IDENTITIES}""",
)
