-- What changed since an earlier snapshot
-- $since VARCHAR = : the earlier snapshot, such as v0001; the one before this one if empty
WITH seen(what, id, now, before) AS (
    SELECT 'videos', coalesce(a.video_id, b.video_id), CASE a.status WHEN 'ok' THEN 'ok' ELSE a.reason END,
           CASE b.status WHEN 'ok' THEN 'ok' ELSE b.reason END
    FROM videos a FULL JOIN before_videos b USING (video_id)
    UNION ALL
    SELECT 'faces', coalesce(a.face_id, b.face_id), CASE a.status WHEN 'ok' THEN 'ok' ELSE a.reason END,
           CASE b.status WHEN 'ok' THEN 'ok' ELSE b.reason END
    FROM faces a FULL JOIN before_faces b USING (face_id)
    UNION ALL
    SELECT 'identities', coalesce(a.identity_id, b.identity_id), a.split, b.split
    FROM identities a FULL JOIN before_identities b USING (identity_id)
    UNION ALL
    SELECT 'chosen faces', coalesce(a.face_id, b.face_id), a.identity_id IS NOT NULL, b.identity_id IS NOT NULL
    FROM identity_faces a FULL JOIN before_identity_faces b USING (face_id)
)
SELECT what,
       count(*) FILTER (before IS NOT NULL AND before <> 'false') AS before,
       count(*) FILTER (now IS NOT NULL AND now <> 'false') AS now,
       count(*) FILTER (now IS NOT NULL AND now <> 'false' AND (before IS NULL OR before = 'false')) AS added,
       count(*) FILTER (before IS NOT NULL AND before <> 'false' AND (now IS NULL OR now = 'false')) AS removed,
       count(*) FILTER (now <> before AND now <> 'false' AND before <> 'false') AS other_outcome
FROM seen
WHERE $since IS NOT NULL
GROUP BY what
ORDER BY what
