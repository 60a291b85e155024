"""SQL queries of the report's tables and figures, over the views of the corpus."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.mining.speed_of_light import WORK_QUERY

SHOWN_OFTEN, SHOWN_SAMPLED = 24, 48
"""Largest number of people that are shown because they are in most files, and of those that are sampled."""
SHOWN_FACES = 8
"""Largest number of faces per identity, and of images per capture."""
SHOWN_CAPTURES = 24
"""Largest number of captures that are shown."""
SHOWN_SAMPLES = 12
"""Largest number of samples per reason of rejection."""
SHOWN_REASONS = 16
"""Largest number of reasons that are shown with samples."""
SHOWN_ROWS = 60
"""Largest number of rows in a table, so that the page is readable for a corpus of any size."""
YAW_STEP, PITCH_STEP = 20, 15
"""Steps of the table of poses, degrees."""


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

CHANGES = ReportQuery(
    "changes",
    f"""
SELECT stage, reason, before, after, after - before AS difference
FROM (
  SELECT stage, reason, coalesce(past.items, 0) AS before, coalesce(now.items, 0) AS after
  FROM funnel AS now FULL JOIN before_funnel AS past USING (stage, reason)
)
WHERE before <> after
ORDER BY coalesce(list_position(['videos', 'shots', 'tracks', 'faces', 'identities', 'views'], stage), 99), stage,
         reason <> 'ok', abs(after - before) DESC, reason
LIMIT {SHOWN_ROWS}""",
)

IDENTITIES = ReportQuery(
    "identities",
    f"""
WITH often AS (
  SELECT identity_id, true AS often FROM identities
  ORDER BY n_videos DESC, n_faces DESC, identity_id LIMIT {SHOWN_OFTEN}
), sampled AS (
  SELECT identity_id, false AS often FROM identities ANTI JOIN often USING (identity_id)
  ORDER BY identity_id LIMIT {SHOWN_SAMPLED}
), shown AS (
  SELECT * FROM identities JOIN (FROM often UNION ALL FROM sampled) USING (identity_id)
)
SELECT shown.identity_id, shown.often, shown.split, shown.n_videos, shown.n_tracks, shown.n_faces, shown.cohesion,
       chosen.face_id, chosen.rank, chosen.why, chosen.yaw_deg, chosen.pitch_deg, chosen.width_px, chosen.sharpness,
       chosen.frame_index, videos.uri, chosen.crop, chosen.matte
FROM shown
LEFT JOIN chosen ON chosen.identity_id = shown.identity_id AND chosen.rank < {SHOWN_FACES}
LEFT JOIN videos ON videos.video_id = chosen.video_id
ORDER BY NOT shown.often, shown.n_videos * shown.often::INT DESC, shown.n_faces * shown.often::INT DESC,
         shown.identity_id, chosen.rank""",
)

POSES = ReportQuery(
    "poses",
    f"""
WITH cells AS (
  SELECT greatest(-3, least(3, round(yaw_deg / {YAW_STEP})))::INT AS across,
         greatest(-2, least(2, round(pitch_deg / {PITCH_STEP})))::INT AS up, count(*) AS faces, min(face_id) AS face_id
  FROM chosen WHERE isfinite(yaw_deg) AND isfinite(pitch_deg) AND crop IS NOT NULL GROUP BY across, up
)
SELECT across, up, cells.faces, chosen.crop
FROM cells JOIN chosen ON chosen.face_id = cells.face_id ORDER BY up DESC, across""",
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
WITH totals AS (
  SELECT status, reason, count(*) AS total, min(track_id, {SHOWN_SAMPLES}) AS ids
  FROM tracks WHERE status <> 'ok' GROUP BY status, reason ORDER BY total DESC, reason LIMIT {SHOWN_REASONS}
), picked AS (
  SELECT status, reason, total, unnest(ids) AS track_id FROM totals
), best AS (
  SELECT track_id, arg_max(crop, (score, face_id)) AS crop
  FROM faces SEMI JOIN picked USING (track_id) WHERE crop IS NOT NULL GROUP BY track_id
)
SELECT picked.reason, picked.status, picked.total, tracks.mean_width_px AS width_px,
       tracks.mean_sharpness AS sharpness, tracks.start_frame AS frame_index, videos.uri, best.crop
FROM picked
JOIN tracks USING (track_id)
LEFT JOIN best USING (track_id)
LEFT JOIN videos ON videos.video_id = tracks.video_id
ORDER BY picked.total DESC, picked.reason, picked.status, picked.track_id""",
)

REJECTED_FACES = ReportQuery(
    "rejected_faces",
    f"""
WITH totals AS (
  SELECT status, reason, count(*) AS total, min(face_id, {SHOWN_SAMPLES}) AS ids
  FROM faces SEMI JOIN (FROM tracks WHERE status = 'ok') AS used USING (track_id)
  WHERE status <> 'ok' GROUP BY status, reason ORDER BY total DESC, reason LIMIT {SHOWN_REASONS}
), picked AS (
  SELECT status, reason, total, unnest(ids) AS face_id FROM totals
)
SELECT picked.reason, picked.status, picked.total, faces.x1 - faces.x0 AS width_px, faces.sharpness,
       faces.frame_index, videos.uri, faces.crop
FROM picked
JOIN faces ON faces.face_id = picked.face_id
LEFT JOIN videos ON videos.video_id = faces.video_id
ORDER BY picked.total DESC, picked.reason, picked.status, picked.face_id""",
)

VIDEOS = ReportQuery(
    "videos",
    f"""
WITH shown AS (
  SELECT * FROM videos ORDER BY status = 'ok', reason, uri LIMIT {SHOWN_ROWS}
), s AS (
  SELECT video_id, count(*) AS shots FROM shots SEMI JOIN shown USING (video_id) GROUP BY video_id
), t AS (
  SELECT video_id, count(*) AS tracks, count(*) FILTER (status = 'ok') AS tracks_ok,
         count(DISTINCT identity_id) AS identities
  FROM (FROM tracks SEMI JOIN shown USING (video_id)) LEFT JOIN assignments USING (track_id) GROUP BY video_id
)
SELECT shown.uri, shown.status, shown.reason, codec, width, height, fps, duration_s, n_frames, n_frames_decoded,
       coalesce(s.shots, 0) AS shots, coalesce(t.tracks, 0) AS tracks, coalesce(t.tracks_ok, 0) AS tracks_ok,
       coalesce(t.identities, 0) AS identities
FROM shown LEFT JOIN s USING (video_id) LEFT JOIN t USING (video_id)
ORDER BY shown.status = 'ok', shown.reason, shown.uri""",
)

RIGHTS = ReportQuery(
    "rights",
    f"""
SELECT coalesce(nullif(licence, ''), 'not stated') AS licence, coalesce(nullif(consent, ''), 'not stated') AS consent,
       count(*) AS videos, sum(duration_s) AS seconds
FROM videos GROUP BY ALL ORDER BY videos DESC, licence, consent LIMIT {SHOWN_ROWS}""",
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

FILES = ReportQuery(
    "files",
    """
SELECT least(n_videos, 20) AS low, count(*) AS used, 0 AS unused FROM identities GROUP BY low ORDER BY low""",
)

CHOICES = ReportQuery(
    "choices",
    """
SELECT least(n_faces, 20) AS low, count(*) AS used, 0 AS unused FROM identities GROUP BY low ORDER BY low""",
)

LENGTHS = ReportQuery(
    "lengths",
    """
SELECT floor(2 * log2(greatest(duration_s, 1))) / 2 AS low, count(*) FILTER (status = 'ok') AS used,
       count(*) FILTER (status <> 'ok') AS unused
FROM videos WHERE isfinite(duration_s) GROUP BY low ORDER BY low""",
)

COSTS = ReportQuery(
    "costs",
    """
SELECT step, sum(items)::BIGINT AS items, sum(attempts)::BIGINT AS attempts,
       coalesce(sum(attempts) FILTER (status = 'ok'), 0)::BIGINT AS ok,
       coalesce(sum(attempts) FILTER (status = 'rejected'), 0)::BIGINT AS rejected,
       coalesce(sum(attempts) FILTER (status = 'failed'), 0)::BIGINT AS failed,
       sum(seconds) AS seconds, sum(seconds) / sum(attempts) AS seconds_each, sum(bytes)::BIGINT AS bytes
FROM costs GROUP BY step ORDER BY seconds DESC NULLS LAST, step""",
)

WORK = ReportQuery("work", WORK_QUERY)

CAPTURES = ReportQuery(
    "captures",
    f"""
WITH shown AS (
  SELECT * FROM captures ORDER BY dataset, capture_id LIMIT {SHOWN_CAPTURES}
), counts AS (
  SELECT capture_id, count(*) AS views, count(*) FILTER (status = 'ok') AS views_ok,
         min({{'frame': frame_index, 'camera': camera_id, 'image': image}}, {SHOWN_FACES})
         FILTER (status = 'ok' AND image IS NOT NULL) AS first_views
  FROM views SEMI JOIN shown USING (capture_id) GROUP BY capture_id
)
SELECT capture_id, dataset, coalesce(licence, 'not stated') AS licence, n_cameras, n_frames,
       coalesce(views, 0) AS views, coalesce(views_ok, 0) AS views_ok,
       list_transform(first_views, lambda view: view.image) AS images
FROM shown LEFT JOIN counts USING (capture_id)
ORDER BY dataset, capture_id""",
)
